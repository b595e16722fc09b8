/** The charts: the mean as a line in the band of least and greatest, from downsampled history, extended live. */
/* global document, fetch, getComputedStyle, requestAnimationFrame, ResizeObserver, URLSearchParams */
import uPlot from './vendor/uplot.js'
import { number, seconds, short } from './format.js'

/** Live points added to a chart before its buckets are asked for again. */
const LIVE_POINTS = 200
/** Pixels of a bucket: wide enough that the mean reads as a line and the spread as a band. */
const BUCKET_PX = 4
/** Buckets asked for at least and at most. */
const POINTS = { min: 60, max: 600 }

/** What each card shows. The value beside the title is the mean of the newest bucket, or of the one pointed at. */
const CHARTS = [
  {
    id: 'reward',
    axis: 'step',
    series: [line('reward_mean', 'mean', '--good')],
    format: number,
    hasTrend: true,
  },
  { id: 'loss', axis: 'step', series: [line('loss', 'loss', '--busy')], format: number, range: wide(1e-4) },
  {
    id: 'clip',
    axis: 'step',
    series: [line('clip_ratio_low', 'low', '--warn'), line('clip_ratio_high', 'high', '--busy')],
    format: percent,
    range: fromZero(0.01),
  },
  {
    id: 'tokens',
    axis: 'step',
    series: [line('tokens_per_second', 'tokens/s', '--good')],
    unit: 'tokens/s ',
    range: fromZero(1),
    format: (v) => (v === null ? '–' : number(Math.round(v))),
  },
  {
    id: 'reduce',
    axis: 'round',
    series: [line('all_reduce_seconds', 'time', '--busy')],
    range: fromZero(0.001),
    format: seconds,
  },
]

function line(name, label, colour) {
  return { name, label, colour }
}

/** A y range from 0 that is at least `least` high, so that nothing but zeros is drawn as nothing. */
function fromZero(least) {
  return (_plot, _low, high) => [0, Math.max(least, (high ?? 0) * 1.08)]
}

/** A y range that is at least `least` to both sides of 0, so that rounding errors do not look like a signal. */
function wide(least) {
  return (_plot, low, high) => {
    const margin = 0.08 * ((high ?? 0) - (low ?? 0))
    return [Math.min(-least, (low ?? 0) - margin), Math.max(least, (high ?? 0) + margin)]
  }
}

/**
 * The trend: an exponential mean over both sides, so that it neither lags nor leads. One step's reward is the mean
 * of few completions; only its trend says whether anything is learned.
 */
function trendOf(values) {
  const left = exponentialSums(values)
  const right = exponentialSums(values.toReversed()).reverse()
  return values.map((value, i) =>
    value === null ? null : (left[i].sum + right[i].sum) / (left[i].weight + right[i].weight),
  )
}

/** Sums with their weights: where few values lie behind, they count for little. */
function exponentialSums(values) {
  const keep = 1 - 1 / Math.max(4, values.length / 20)
  let sum = 0
  let weight = 0
  return values.map((value) => {
    if (value !== null) {
      sum = keep * sum + value
      weight = keep * weight + 1
    }
    return { sum, weight }
  })
}

function percent(value) {
  return value === null ? '–' : `${number(value * 100)} %`
}

/** How live events become points: the same values that the daemon stores. */
const LIVE = {
  step: ({ stats }) => ({
    x: stats.step,
    values: {
      reward_mean: stats.rewardMean,
      loss: stats.loss,
      clip_ratio_low: stats.clipRatioLow,
      clip_ratio_high: stats.clipRatioHigh,
      tokens_per_second: stats.tokensPerSecond,
    },
  }),
  round: ({ round }) => ({ x: round.round, values: { all_reduce_seconds: round.duration_ms / 1000 } }),
}

/** All charts of the page. `load` asks the daemon; `push` adds a live event. */
export class Charts {
  #headers
  #charts
  #range = { last: 0, from: null, to: null }
  #isLoading = false
  #isStale = false
  #newest = { step: 0, round: 0 }

  constructor(headers) {
    this.#headers = headers
    const sync = uPlot.sync('steps')
    this.#charts = CHARTS.map((spec) => new Chart(spec, sync, (from, to) => this.#zoom(spec.axis, from, to)))
    document.getElementById('range').addEventListener('click', (event) => {
      const last = event.target.dataset?.last
      if (last !== undefined) this.#choose(Number(last))
    })
  }

  /** Takes all charts from history again. */
  async load() {
    if (this.#isLoading) {
      this.#isStale = true
      return
    }
    this.#isLoading = true
    try {
      await Promise.all(this.#charts.map((chart) => this.#loadOne(chart)))
    } finally {
      this.#isLoading = false
    }
    if (this.#isStale) {
      this.#isStale = false
      await this.load()
    }
  }

  /** Adds a step or a round; while a person looks at a part of the past, the picture stands still. */
  push(type, event) {
    const { x, values } = LIVE[type](event)
    this.#newest[type] = Math.max(this.#newest[type], x)
    if (this.#range.from !== null) return
    let isFull = false
    for (const chart of this.#charts) {
      if (chart.axis === type) isFull = chart.push(x, values) > LIVE_POINTS || isFull
    }
    if (isFull) void this.load().catch(() => {})
  }

  redraw() {
    for (const chart of this.#charts) chart.redraw()
  }

  async #loadOne(chart) {
    const { axis } = chart
    const query = new URLSearchParams({ series: chart.names.join(), points: chart.points })
    const { last, from, to, zoomed } = this.#range
    if (from !== null && zoomed === axis) {
      query.set('from', from)
      query.set('to', to)
    } else if (last > 0) {
      query.set('from', Math.max(0, this.#newest[axis] - last + 1))
    }
    const response = await fetch(`api/history?${query}`, { headers: this.#headers() })
    if (!response.ok) throw new Error(`history answered ${response.status}`)
    const table = (await response.json()).tables[0]
    if (from === null && table.x.length > 0) this.#newest[axis] = Math.max(this.#newest[axis], table.x.at(-1))
    chart.set(table)
  }

  #choose(last) {
    this.#range = { last, from: null, to: null }
    for (const button of document.querySelectorAll('#range button')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.last) === last))
    }
    void this.load().catch(() => {})
  }

  /** A stretch chosen with the pointer is fetched in full detail; a double click goes back. */
  #zoom(axis, from, to) {
    if (from === null) return this.#choose(this.#range.last)
    this.#range = { last: this.#range.last, from, to, zoomed: axis }
    for (const button of document.querySelectorAll('#range button'))
      button.setAttribute('aria-pressed', 'false')
    void this.load().catch(() => {})
  }
}

class Chart {
  axis
  names
  #spec
  #plot
  #box
  #readout
  #rows = [[]]
  #live = 0
  #isDirty = false
  #empty = document.createElement('div')

  constructor(spec, sync, onZoom) {
    this.#spec = spec
    this.axis = spec.axis
    this.names = spec.series.map((series) => series.name)
    this.#box = document.getElementById(`${spec.id}-plot`)
    this.#readout = document.getElementById(`${spec.id}-readout`)
    this.#empty.className = 'empty'
    this.#empty.textContent = spec.axis === 'step' ? 'No step finished yet' : 'No round committed yet'
    this.#rows = [[], ...spec.series.flatMap(() => [[], [], []])]
    this.#plot = new uPlot(
      options(spec, sync, this.#box, onZoom, (index) => this.#read(index)),
      this.#drawn(),
      this.#box,
    )
    this.#box.append(this.#empty)
    new ResizeObserver(() => {
      this.#plot.setSize({ width: this.#box.clientWidth, height: this.#box.clientHeight })
    }).observe(this.#box)
  }

  /** How many buckets this chart can show. */
  get points() {
    return Math.round(Math.min(POINTS.max, Math.max(POINTS.min, this.#box.clientWidth / BUCKET_PX)))
  }

  set(table) {
    this.#live = 0
    this.#rows = [
      table.x,
      ...this.names.flatMap((name) => [
        table.series[name].max,
        table.series[name].min,
        table.series[name].mean,
      ]),
    ]
    this.#soon()
  }

  /** Returns how many live points lie behind the buckets of history. */
  push(x, values) {
    const xs = this.#rows[0]
    while (xs.length > 0 && xs.at(-1) >= x) for (const row of this.#rows) row.pop()
    xs.push(x)
    this.names.forEach((name, i) => {
      const value = Number.isFinite(values[name]) ? values[name] : null
      for (let k = 1; k <= 3; k++) this.#rows[3 * i + k].push(value)
    })
    this.#soon()
    return ++this.#live
  }

  #drawn() {
    return this.#spec.hasTrend ? [...this.#rows, trendOf(this.#rows[3])] : this.#rows
  }

  redraw() {
    this.#plot.redraw(false, true)
    this.#read(null)
  }

  /** However many events come, a chart is drawn once a frame. */
  #soon() {
    if (this.#isDirty) return
    this.#isDirty = true
    requestAnimationFrame(() => {
      this.#isDirty = false
      this.#plot.setData(this.#drawn())
      this.#empty.hidden = this.#rows[0].length > 0
      this.#read(null)
    })
  }

  /** Shows the values under the pointer, or the newest. */
  #read(index) {
    const at = index ?? this.#rows[0].length - 1
    const isPast = index !== null && index !== undefined
    const texts = this.#spec.series.map((series, i) => {
      const item = document.createElement('span')
      if (this.#spec.series.length > 1) {
        const key = document.createElement('i')
        key.className = 'key'
        key.style.background = `var(${series.colour})`
        item.append(key, `${series.label} `)
      }
      const value = document.createElement('b')
      value.textContent = at < 0 ? '–' : this.#spec.format(this.#rows[3 * i + 3][at] ?? null)
      item.append(value)
      return item
    })
    if (this.#spec.hasTrend && at >= 0) {
      const trend = document.createElement('b')
      trend.textContent = this.#spec.format(this.#plot.data.at(-1)[at] ?? null)
      const item = document.createElement('span')
      item.append('trend ', trend)
      texts.push(item)
    }
    const where = document.createElement('span')
    where.textContent =
      at < 0
        ? ''
        : `${this.#spec.unit ?? ''}${isPast ? 'at' : 'to'} ${this.axis} ${number(this.#rows[0][at])}`
    this.#readout.replaceChildren(...texts, where)
  }
}

function options(spec, sync, box, onZoom, onCursor) {
  const css = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name)
  const axis = {
    stroke: css('--soft'),
    font: '11px ui-sans-serif, system-ui, sans-serif',
    grid: { stroke: css('--grid'), width: 1 },
    ticks: { show: false },
    gap: 6,
  }
  const series = spec.series.flatMap(({ colour }) => [
    { stroke: 'transparent', width: 0, points: { show: false } },
    { stroke: 'transparent', width: 0, points: { show: false } },
    {
      stroke: css(colour),
      width: spec.hasTrend ? 1 : 1.75,
      alpha: spec.hasTrend ? 0.45 : 1,
      points: { show: false },
    },
  ])
  if (spec.hasTrend) series.push({ stroke: css(spec.series[0].colour), width: 2.25, points: { show: false } })
  const bands = spec.series.map(({ colour }, i) => ({
    series: [3 * i + 1, 3 * i + 2],
    fill: css(`${colour}-wash`),
  }))
  return {
    width: Math.max(50, box.clientWidth),
    height: Math.max(50, box.clientHeight),
    padding: [8, 16, 6, 0],
    legend: { show: false },
    scales: { x: { time: false }, y: spec.range === undefined ? {} : { range: spec.range } },
    axes: [
      {
        ...axis,
        size: 24,
        space: 70,
        grid: { show: false },
        values: (_plot, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? shortOrPlain(tick) : '')),
      },
      { ...axis, size: 56, space: 34, values: (_plot, ticks) => ticks.map((tick) => spec.format(tick)) },
    ],
    series: [{}, ...series],
    bands,
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      sync: spec.axis === 'step' ? { key: sync.key, setSeries: false } : undefined,
      points: {
        size: 7,
        width: 2,
        stroke: (plot, i) => plot.series[i].stroke(plot, i),
        fill: css('--surface'),
      },
      bind: {
        dblclick: () => () => {
          onZoom(null, null)
          return null
        },
      },
    },
    hooks: {
      setCursor: [(plot) => onCursor(plot.cursor.idx)],
      setSelect: [
        (plot) => {
          if (plot.select.width < 6) return
          const from = Math.max(0, Math.floor(plot.posToVal(plot.select.left, 'x')))
          const to = Math.ceil(plot.posToVal(plot.select.left + plot.select.width, 'x'))
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
          onZoom(from, Math.max(from, to))
        },
      ],
    },
  }
}

function shortOrPlain(value) {
  return Math.abs(value) >= 10_000 ? short(value) : number(value)
}
