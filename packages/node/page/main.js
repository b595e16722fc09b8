/** Wires the page: loads history, follows the live stream, and shows the status document. */
/* global document, fetch, localStorage, matchMedia, setInterval */
import { Charts } from './charts.js'
import { Controls } from './controls.js'
import { bytes, number, seconds, short, span, state as stateName } from './format.js'
import { Lists } from './lists.js'
import { RingView } from './ring.js'
import { follow } from './stream.js'

const byId = (id) => document.getElementById(id)
const ring = new RingView()
const lists = new Lists()
const controls = new Controls({ onFailure: showFailure, onToken: () => void load() })
const charts = new Charts(controls.headers)
let status = null
let shownError = null

useTheme()
void follow('events', controls.headers, {
  open() {
    showLive(true, 'live')
    void load()
  },
  event(name, body) {
    if (name === 'status') return show(body)
    if (name === 'step' || name === 'round') charts.push(name, body.event)
    else lists.push(body)
  },
  lost(reason) {
    showLive(false, reason)
    if (reason === 'token needed') void controls.refresh().catch(() => {})
  },
})
setInterval(() => status !== null && showFacts(status), 10_000)

/** Everything that is not live: at the start, after each reconnection, and when a token was given. */
async function load() {
  try {
    await Promise.all([charts.load(), loadLists(), controls.refresh()])
  } catch {
    // The daemon went away while it was asked; the stream notices too and load runs again when it is back.
  }
}

async function loadLists() {
  const [rollouts, deltas, log] = await Promise.all(['rollout', 'delta', 'log'].map(recent))
  lists.fill({ rollouts, deltas, log })
}

async function recent(type) {
  const response = await fetch(`api/recent?type=${type}&limit=100`, { headers: controls.headers() })
  if (!response.ok) throw new Error(`recent answered ${response.status}`)
  return (await response.json()).events
}

function show(next) {
  status = next
  document.body.dataset.state = next.state
  document.title = `${stateName(next.state)} · round ${next.round} · gym-node`
  setText('state', stateName(next.state))
  setText('reason', next.state_reason)
  setText('job', next.job)
  byId('reason').title = next.state_reason
  ring.update(next)
  controls.show(next)
  showTiles(next)
  showFacts(next)
  showVerdicts(next.verdicts)
  showError(next.last_error)
}

function showTiles({
  step,
  round,
  last_step: stats,
  last_round: reduced,
  ring: { bytes_sent: sent, bytes_received: received },
}) {
  pairs(byId('tiles'), [
    ['Step', number(step)],
    ['Round', number(round)],
    ['Reward', number(stats?.rewardMean), stats === null ? '' : `± ${stats.rewardStd.toFixed(2)}`],
    ['Tokens', stats === null ? '–' : number(Math.round(stats.tokensPerSecond)), '/s'],
    ['All-reduce', reduced === null ? '–' : seconds(reduced.duration_ms / 1000)],
    ['Traffic', bytes(sent + received)],
  ])
}

function showFacts(next) {
  const {
    model,
    ring: { ring_id: ringId, addresses, view_changes: changes, frames_rejected: rejected },
  } = next
  pairs(byId('facts'), [
    ['Peer', next.peer_id],
    ['Ring', ringId === null ? 'none' : ringId.slice(0, 16)],
    ['Role', next.role],
    ['Engine', next.engine ?? 'not loaded'],
    ['Model', model === null ? 'not loaded' : `${model.architecture}, ${short(model.parameters)} parameters`],
    ['Data set', next.dataset_size === null ? '–' : `${number(next.dataset_size)} prompts`],
    ['View changes', number(changes)],
    ['Frames refused', number(rejected)],
    ['Listens on', addresses.join('  ') || 'nothing'],
    ['Version', next.version],
    ['Up', span((Date.now() - Date.parse(next.started_at)) / 1000)],
  ])
}

/** What validators said of this node's deltas, or a validator of others'; nothing where none has spoken. */
function showVerdicts({ accepted, rejected, unavailable, last }) {
  const counts = Object.entries({ accepted, rejected, unavailable }).filter(([, count]) => count > 0)
  setText('verdicts', counts.map(([name, count]) => `${number(count)} ${name}`).join(' · '))
  byId('verdicts').title =
    last === null ? '' : `round ${last.round}: ${[last.result, ...last.failed].join(', ')}`
}

function showError(error) {
  if (error === null || error.time === shownError) return
  if (Date.now() - Date.parse(error.time) > 10 * 60_000 && document.body.dataset.state !== 'failed') return
  shownError = error.time
  showFailure(error)
}

function showFailure(error) {
  const banner = byId('banner')
  banner.hidden = error === null
  if (error === null) return
  const code = document.createElement('b')
  code.textContent = error.code
  banner.replaceChildren(code, error.message)
}

function showLive(isLive, text) {
  byId('live').dataset.live = isLive ? 'yes' : 'no'
  byId('live').lastElementChild.textContent = text
  byId('live').title = text
}

/** Definition pairs changed in place, so that a reader's selection and a screen reader's place survive. */
function pairs(list, items) {
  items.forEach(([name, value, note = ''], i) => {
    const row = list.children[i] ?? list.appendChild(makePair(name))
    const [dd, small] = [row.children[1], row.children[1].children[0]]
    if (dd.firstChild.data !== value) dd.firstChild.data = value
    if (small.textContent !== note) small.textContent = note
  })
}

function makePair(name) {
  const row = document.createElement('div')
  const dt = document.createElement('dt')
  const dd = document.createElement('dd')
  dt.textContent = name
  dd.append(document.createTextNode(''), document.createElement('small'))
  row.append(dt, dd)
  return row
}

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text
}

/** Follows the system until a person chooses; the choice is kept in this browser. */
function useTheme() {
  const root = document.documentElement
  const systemIsDark = matchMedia('(prefers-color-scheme: dark)')
  root.dataset.theme = localStorage.getItem('gym-node theme') ?? 'auto'
  systemIsDark.addEventListener('change', () => charts.redraw())
  byId('theme').addEventListener('click', () => {
    const isDark = root.dataset.theme === 'dark' || (root.dataset.theme === 'auto' && systemIsDark.matches)
    root.dataset.theme = isDark ? 'light' : 'dark'
    localStorage.setItem('gym-node theme', root.dataset.theme)
    charts.redraw()
  })
}
