/** What an operator with the token may do. Without a token the buttons are not there; the daemon refuses anyway. */
/* global document, fetch, history, location, sessionStorage, URLSearchParams */

const KEY = 'gym-node token'

/** The token of this tab, the buttons and their dialogs. */
export class Controls {
  #onFailure
  #onToken
  #byId = (id) => document.getElementById(id)

  constructor({ onFailure, onToken }) {
    this.#onFailure = onFailure
    this.#onToken = onToken
    this.#takeTokenFromAddress()
    this.#byId('unlock').addEventListener('click', () => this.#open('token-dialog'))
    this.#byId('token-cancel').addEventListener('click', () => this.#byId('token-dialog').close())
    this.#byId('token-ok').addEventListener('click', () => void this.#tryToken())
    this.#byId('token').addEventListener('keydown', (event) => {
      if (event.key === 'Enter') void this.#tryToken()
    })
    this.#byId('pause').addEventListener('click', () => void this.#act('pause'))
    this.#byId('resume').addEventListener('click', () => void this.#act('resume'))
    this.#byId('leave').addEventListener('click', () => this.#open('leave-dialog'))
    this.#byId('leave-cancel').addEventListener('click', () => this.#byId('leave-dialog').close())
    this.#byId('leave-ok').addEventListener('click', () => {
      this.#byId('leave-dialog').close()
      void this.#act('leave')
    })
  }

  /** The headers that every request of the page carries. */
  headers = () => {
    const token = sessionStorage.getItem(KEY)
    return token === null ? {} : { authorization: `Bearer ${token}` }
  }

  /** Shows what this tab may do. */
  async refresh() {
    const response = await fetch('api/session', { headers: this.headers() })
    const needsToken = response.status === 401
    const session = response.ok ? await response.json() : { has_controls: needsToken, is_operator: false }
    this.#byId('controls').hidden = !session.is_operator
    this.#byId('unlock').hidden = session.is_operator || !session.has_controls
    return session.is_operator
  }

  show(status) {
    const isPaused = status.state === 'paused'
    const isEnding = status.state === 'stopping' || status.state === 'failed'
    this.#byId('pause').hidden = isPaused
    this.#byId('resume').hidden = !isPaused
    for (const id of ['pause', 'resume', 'leave']) this.#byId(id).disabled = isEnding
  }

  /** A link that ends in #token=… unlocks the page; the token is taken out of the address at once. */
  #takeTokenFromAddress() {
    const token = new URLSearchParams(location.hash.slice(1)).get('token')
    if (token === null) return
    sessionStorage.setItem(KEY, token)
    history.replaceState(null, '', location.pathname)
  }

  #open(id) {
    this.#byId('token-problem').hidden = true
    this.#byId(id).showModal()
  }

  async #tryToken() {
    const input = this.#byId('token')
    sessionStorage.setItem(KEY, input.value.trim())
    let problem = null
    try {
      if (!(await this.refresh())) problem = 'The daemon does not know this token.'
    } catch {
      problem = 'The daemon is out of reach.'
    }
    if (problem !== null) {
      sessionStorage.removeItem(KEY)
      this.#byId('token-problem').textContent = problem
      this.#byId('token-problem').hidden = false
      return
    }
    input.value = ''
    this.#byId('token-dialog').close()
    this.#onToken()
  }

  async #act(name) {
    const button = this.#byId(name)
    button.disabled = true
    try {
      const response = await fetch(`api/${name}`, { method: 'POST', headers: this.headers() })
      const answer = await response.json()
      this.#onFailure(response.ok ? null : answer.error)
    } catch {
      this.#onFailure({ code: 'OUT_OF_REACH', message: `${name} got no answer from the daemon` })
    } finally {
      button.disabled = false
    }
  }
}
