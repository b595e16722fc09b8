/** The lists of the page: sample rollouts, deltas, events. Whatever a model wrote is set as text, never as markup. */
/* global document */
import { bytes, number, peer, state as stateName, time } from './format.js'

const LONGEST = { samples: 24, deltas: 50, log: 100 }
/** Characters past which a sample gets a button that opens it. */
const LONG_TEXT = 220

const ROUTINE = new Set(['waiting_for_peers', 'syncing', 'training', 'reducing', 'validating'])

/** Newest first, bounded, filled from history and extended live. */
export class Lists {
  #samples = document.getElementById('samples')
  #deltas = document.getElementById('deltas')
  #log = document.getElementById('log')

  /** Replaces all with what history gave, each newest first. */
  fill({ rollouts, deltas, log }) {
    put(this.#samples, rollouts.slice(0, LONGEST.samples).map(sample), 'No rollout yet')
    put(this.#deltas, deltas.slice(0, LONGEST.deltas).map(delta), 'No delta yet')
    put(this.#log, log.slice(0, LONGEST.log).map(entry), 'Nothing happened yet')
  }

  /** Adds one live event where it belongs. */
  push({ at, event }) {
    switch (event.type) {
      case 'rollout':
        return add(this.#samples, sample({ at, event }), LONGEST.samples)
      case 'delta':
        return add(this.#deltas, delta({ at, event }), LONGEST.deltas)
      case 'state':
        // As in history: the phases of a round take each other's place.
        if (ROUTINE.has(event.state)) this.#log.querySelector(':scope > .is-routine:first-child')?.remove()
        return add(this.#log, entry({ at, event }), LONGEST.log)
      case 'view':
      case 'error':
        return add(this.#log, entry({ at, event }), LONGEST.log)
    }
  }
}

function put(list, items, nothing) {
  list.replaceChildren(...items)
  if (items.length > 0) return
  const isTable = list.tagName === 'TBODY'
  const note = element(isTable ? 'td' : 'li', 'none', nothing)
  if (isTable) note.colSpan = 5
  if (isTable) {
    const row = document.createElement('tr')
    row.className = 'none'
    row.append(note)
    list.append(row)
  } else list.append(note)
}

function add(list, item, longest) {
  list.querySelector(':scope > .none')?.remove()
  list.prepend(item)
  while (list.children.length > longest) list.lastElementChild.remove()
}

function sample({ event }) {
  const item = element('li', 'sample')
  const score = element('div', 'score')
  const tone = event.reward >= 0.5 ? 'good' : event.reward > 0 ? 'warn' : 'bad'
  score.append(
    tag(number(event.reward), tone, 'reward'),
    element('span', 'step', `step ${number(event.step)}`),
  )
  const texts = element('div')
  texts.append(element('pre', 'prompt', event.prompt), element('pre', '', event.completion))
  item.append(score, texts)
  if (event.prompt.length + event.completion.length > LONG_TEXT) {
    const more = element('button', 'more', 'Show all')
    more.type = 'button'
    more.addEventListener('click', () => {
      more.textContent = item.classList.toggle('is-open') ? 'Show less' : 'Show all'
    })
    item.append(more)
  }
  return item
}

function delta({ at, event }) {
  const row = document.createElement('tr')
  const hash = element('td', 'code', `${event.sha3_256.slice(0, 12)}…`)
  hash.title = `${event.sha3_256}\n${event.file}`
  const check = element('td')
  check.append(event.verified ? tag('verified', 'good') : tag('does not verify', 'bad'))
  row.append(
    element('td', 'num', number(event.round)),
    hash,
    element('td', 'num', bytes(event.bytes)),
    check,
    element('td', 'num', time(at)),
  )
  return row
}

function entry({ at, event }) {
  const item = element('li', ROUTINE.has(event.state) ? 'entry is-routine' : 'entry')
  const when = element('time', '', time(at))
  when.dateTime = new Date(at).toISOString()
  const [label, tone, text] = describe(event)
  const head = element('div')
  head.append(tag(label, tone))
  item.append(head, when, element('p', '', text))
  return item
}

function describe(event) {
  switch (event.type) {
    case 'state': {
      const tone = {
        training: 'good',
        reducing: 'busy',
        validating: 'good',
        syncing: 'busy',
        failed: 'bad',
        paused: 'warn',
        waiting_for_peers: 'warn',
      }
      return [stateName(event.state), tone[event.state] ?? 'still', event.reason]
    }
    case 'view':
      return [
        `view ${number(event.epoch)}`,
        'busy',
        `${event.members.length} members: ${event.members.slice(0, 8).map(peer).join(', ')}${event.members.length > 8 ? ', …' : ''}`,
      ]
    case 'error':
      return [event.code, 'bad', event.message]
  }
}

function tag(text, tone, title = '') {
  const mark = element('span', 'tag', text)
  mark.dataset.tone = tone
  if (title !== '') mark.title = title
  return mark
}

function element(name, className = '', text = '') {
  const made = document.createElement(name)
  if (className !== '') made.className = className
  if (text !== '') made.textContent = text
  return made
}
