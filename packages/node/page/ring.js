/** The ring drawn as a ring: members in ring order, clockwise from the top, changed in place at each status. */
/* global document */
import { number, peer, state as stateName } from './format.js'

const SVG = 'http://www.w3.org/2000/svg'
const CENTRE = { x: 235, y: 200 }

const STATE_WORDS = { self: 'this node', alive: 'alive', suspect: 'silent', lost: 'lost' }

/** Draws into the page's SVG and table; `update(status)` is cheap to call often. */
export class RingView {
  #svg = document.getElementById('ring')
  #tip = document.getElementById('ring-tip')
  #rows = document.getElementById('members')
  #readout = document.getElementById('ring-readout')
  #orbit = part('circle', { class: 'orbit', cx: CENTRE.x, cy: CENTRE.y })
  #flow = part('circle', { class: 'flow', cx: CENTRE.x, cy: CENTRE.y })
  #members = part('g', {})
  #number = part('text', { class: 'centre-number', x: CENTRE.x, y: CENTRE.y + 8 })
  #label = part('text', { class: 'centre-label', x: CENTRE.x, y: CENTRE.y + 30 })
  #state = part('text', { class: 'centre-state', x: CENTRE.x, y: CENTRE.y - 40 })
  #drawn = new Map()
  #shape = null

  constructor() {
    this.#svg.append(this.#orbit, this.#flow, this.#state, this.#number, this.#label, this.#members)
    this.#svg.addEventListener('pointermove', (event) => this.#point(event))
    this.#svg.addEventListener('pointerleave', () => (this.#tip.hidden = true))
  }

  update(status) {
    const { members, epoch } = status.ring
    const layout = layoutFor(members.length)
    const shape = members.map((member) => member.peer_id).join()
    if (shape !== this.#shape) this.#rebuild(members, layout)
    this.#shape = shape
    members.forEach((member, i) => this.#drawn.get(member.peer_id)?.show(member, status.round, i))

    this.#orbit.classList.toggle('is-empty', members.length < 2)
    this.#number.textContent = number(status.round)
    this.#label.textContent = epoch === null ? 'no view yet' : `round, in view ${number(epoch)}`
    this.#state.textContent = stateName(status.state)
    const here = members.filter((member) => member.state === 'self' || member.state === 'alive').length
    const words = members.length === 0 ? 'No ring yet' : `${here} of ${members.length} members alive`
    this.#readout.textContent = `${words} · quorum ${status.ring.quorum}`
  }

  #rebuild(members, layout) {
    for (const circle of [this.#orbit, this.#flow]) circle.setAttribute('r', layout.radius)
    const lap = 2 * Math.PI * layout.radius
    const segment = lap / Math.max(2, members.length)
    this.#flow.setAttribute('stroke-dasharray', `${segment * 0.3} ${segment * 0.7}`)
    this.#flow.style.setProperty('--lap', `${-segment}px`)
    this.#drawn.clear()
    const drawn = members.map((member, i) => {
      const view = new MemberView(i, members.length, layout)
      this.#drawn.set(member.peer_id, view)
      return view
    })
    this.#members.replaceChildren(...drawn.map((view) => view.group))
    this.#rows.replaceChildren(...drawn.map((view) => view.row))
  }

  #point(event) {
    const group = event.target.closest?.('.member')
    this.#tip.hidden = group === null || group === undefined
    if (this.#tip.hidden) return
    const view = [...this.#drawn.values()].find((candidate) => candidate.group === group)
    const id = document.createElement('code')
    id.textContent = view.member.peer_id
    this.#tip.replaceChildren(id, `${STATE_WORDS[view.member.state]}, round ${number(view.member.round)}`)
    const stage = this.#tip.parentElement.getBoundingClientRect()
    const x = event.clientX - stage.left
    this.#tip.style.left = `${Math.max(0, Math.min(x + 14, stage.width - this.#tip.offsetWidth))}px`
    this.#tip.style.top = `${event.clientY - stage.top + 16}px`
  }
}

class MemberView {
  group = part('g', { class: 'member' })
  row = document.createElement('tr')
  member = null
  #note = null
  #cells = []

  constructor(index, count, layout) {
    const angle = (index / Math.max(1, count)) * 2 * Math.PI - Math.PI / 2
    const x = CENTRE.x + layout.radius * Math.cos(angle)
    const y = CENTRE.y + layout.radius * Math.sin(angle)
    this.halo = part('circle', { class: 'halo', cx: x, cy: y, r: layout.dot + 5 })
    this.group.append(this.halo, part('circle', { class: 'dot', cx: x, cy: y, r: layout.dot }))
    if (layout.hasLabels) this.#label(angle, index, x, y, layout)
    this.#cells = ['', 'code', '', 'num'].map((name) => {
      const cell = document.createElement('td')
      cell.className = name
      return cell
    })
    this.row.append(...this.#cells)
  }

  show(member, round, index) {
    this.member = member
    this.group.dataset.state = member.state
    this.halo.style.display = member.state === 'self' ? '' : 'none'
    const behind = member.round === null ? 0 : round - member.round
    const where =
      member.round === null
        ? 'round ?'
        : behind > 1
          ? `round ${number(member.round)}, ${behind} behind`
          : `round ${number(member.round)}`
    if (this.#note !== null) {
      const isBad = member.state === 'suspect' || member.state === 'lost'
      this.name.textContent = member.state === 'self' ? 'this node' : peer(member.peer_id)
      this.#note.textContent = isBad ? STATE_WORDS[member.state] : where
      this.#note.classList.toggle('is-bad', isBad)
    }
    const texts = [String(index + 1), member.peer_id, STATE_WORDS[member.state], number(member.round)]
    this.#cells.forEach((cell, i) => {
      if (cell.textContent !== texts[i]) cell.textContent = texts[i]
    })
  }

  #label(angle, index, x, y, layout) {
    const ordinal = part('text', { class: 'ordinal', x, y })
    ordinal.textContent = String(index + 1)
    const [dx, dy] = [Math.cos(angle), Math.sin(angle)]
    const gap = layout.dot + 10
    const anchor = Math.abs(dx) < 0.25 ? 'middle' : dx > 0 ? 'start' : 'end'
    const at = { x: x + dx * gap, y: y + dy * (gap + 6) + (Math.abs(dx) < 0.25 ? (dy > 0 ? 8 : -10) : 0) }
    this.name = part('text', { class: 'name', x: at.x, y: at.y, 'text-anchor': anchor })
    this.#note = part('text', { class: 'note', x: at.x, y: at.y + 14, 'text-anchor': anchor })
    this.group.append(ordinal, this.name, this.#note)
  }
}

/** Few members are large and named, many are dots on a wider ring; names show on pointing and in the table. */
function layoutFor(count) {
  if (count <= 8) return { radius: 130, dot: 16, hasLabels: true }
  if (count <= 16) return { radius: 136, dot: 12, hasLabels: true }
  return { radius: 176, dot: Math.max(3.5, Math.min(9, 340 / count)), hasLabels: false }
}

function part(name, attributes) {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  return element
}
