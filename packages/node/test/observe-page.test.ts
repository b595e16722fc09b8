/**
 * The dashboard in a real headless Chromium: what a person sees and clicks. Without a Chromium on this machine
 * (CHROMIUM=path, or Debian's package) these tests are left out and say so.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { chromium, type Browser, type Page } from 'playwright-core'
import { createObservatory, type Observatory } from '../src/observe/index.ts'
import type { DaemonStatus } from '../src/status.ts'
import { SAMPLES, writeDemoHistory } from './observe-demo.ts'
import {
  fakePeerId,
  ListLogger,
  memberList,
  roundStatus,
  statusDocument,
  stepStats,
} from './observe-fixtures.ts'

const TOKEN = 'open-sesame'
const BROWSER = [
  process.env['CHROMIUM'] ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => path !== '' && existsSync(path))
const skip = BROWSER === undefined ? 'no Chromium here: apt-get install chromium, or set CHROMIUM' : false

describe('the dashboard', { skip }, () => {
  let stateDir = ''
  let browser: Browser
  let observatory: Observatory
  let url = ''
  let status: DaemonStatus
  const calls: string[] = []

  before(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'gym-page-'))
    writeDemoHistory(stateDir, 'arithmetic', 1248, Date.now())
    status = statusDocument({
      step: 1248,
      round: 312,
      ring: { ...statusDocument().ring, members: memberList(3, 312) },
    })
    ;[observatory, url] = await serve(0)
    browser = await chromium.launch({ executablePath: BROWSER ?? '', args: ['--no-sandbox'] })
  })

  after(async () => {
    await browser.close()
    await observatory.stop()
    await rm(stateDir, { recursive: true })
  })

  async function serve(port: number): Promise<[Observatory, string]> {
    const record = (name: string) => async (): Promise<void> => {
      calls.push(name)
      status = { ...status, state: name === 'pause' ? 'paused' : name === 'resume' ? 'training' : 'stopping' }
      made.emit({ type: 'state', state: status.state, reason: `asked to ${name}` })
    }
    const made = createObservatory({
      stateDir,
      listen: { host: '127.0.0.1', port },
      token: TOKEN,
      status: () => status,
      controls: { pause: record('pause'), resume: record('resume'), leave: record('leave') },
      logger: new ListLogger(),
    })
    return [made, (await made.start())?.url ?? '']
  }

  /** A loaded page; every message on its console is an error of ours. */
  async function openPage(
    options: { dark?: boolean; width?: number; path?: string } = {},
  ): Promise<{ page: Page; problems: string[]; foreign: string[] }> {
    const page = await browser.newPage({
      viewport: { width: options.width ?? 1440, height: 1390 },
      colorScheme: options.dark === true ? 'dark' : 'light',
    })
    const problems: string[] = []
    const foreign: string[] = []
    page.on('pageerror', (error) => problems.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error') problems.push(message.text())
    })
    page.on('request', (request) => {
      if (!request.url().startsWith(url)) foreign.push(request.url())
    })
    await page.goto(url + (options.path ?? ''))
    await page.locator('#live[data-live=yes]').waitFor()
    for (const id of ['reward', 'reduce'])
      await page.locator(`#${id}-plot .empty`).waitFor({ state: 'hidden' })
    return { page, problems, foreign }
  }

  it('shows state, ring, numbers, deltas, samples and events, without a word to any other host', async () => {
    const { page, problems, foreign } = await openPage()
    assert.equal(await page.title(), 'training · round 312 · gym-node')
    assert.equal(await page.locator('#state').textContent(), 'training')
    assert.equal(await page.locator('#ring .member').count(), 3)
    assert.equal(await page.locator('#ring .centre-number').textContent(), '312')
    assert.match((await page.locator('#tiles').textContent()) ?? '', /Step1,248.*Round312.*Reward0\.865/)
    assert.equal(await page.locator('.uplot canvas').count(), 5)
    assert.equal(await page.locator('#deltas tr').count(), 30)
    assert.equal(await page.locator('#deltas [data-tone=bad]').textContent(), 'does not verify')
    assert.equal(await page.locator('#verdicts').textContent(), '12 accepted · 1 rejected')
    assert.match((await page.locator('#log li').nth(3).textContent()) ?? '', /PEER_LOST/)
    assert.deepEqual(problems, [])
    assert.deepEqual(foreign, [])
    await page.close()
  })

  it('shows what a model wrote as text, whatever it wrote', async () => {
    const { page } = await openPage()
    const hostile = SAMPLES.find(({ completion }) => completion.includes('<script>'))
    assert.ok(await page.getByText(hostile?.completion ?? '', { exact: true }).isVisible())
    assert.equal(await page.locator('#samples img, #samples script').count(), 0)
    await page.close()
  })

  it('moves with the daemon: steps, rounds, views, deltas and rollouts arrive by themselves', async () => {
    const { page, problems } = await openPage()
    status = {
      ...status,
      state: 'reducing',
      step: 1249,
      last_step: { ...stepStats(1249), rewardMean: 0.931 },
    }
    observatory.emit({ type: 'step', round: 313, stats: { ...stepStats(1249), rewardMean: 0.931 } })
    observatory.emit({
      type: 'rollout',
      step: 1249,
      prompt: 'What is 6 * 7?',
      completion: 'forty-two',
      reward: 1,
    })
    await page.getByText('forty-two').waitFor()
    await page.locator('#state', { hasText: 'reducing' }).waitFor()
    await page.locator('#reward-readout', { hasText: '0.931' }).waitFor()
    status = { ...status, round: 313, ring: { ...status.ring, epoch: 5, members: memberList(4, 313) } }
    observatory.emit({ type: 'view', epoch: 5, members: memberList(4, 313).map((member) => member.peer_id) })
    observatory.emit({ type: 'round', round: roundStatus(313) })
    observatory.emit({
      type: 'delta',
      round: 313,
      file: 'round-313.delta',
      bytes: 1000,
      sha3_256: 'fe'.repeat(32),
      verified: true,
      dtype: 'f32',
      relative_error: 0,
    })
    await page.locator('#ring .member').nth(3).waitFor()
    await page.locator('#deltas tr').first().getByText('313').waitFor()
    await page.locator('#reduce-readout', { hasText: 'round 313' }).waitFor()
    assert.match((await page.locator('#log li').first().textContent()) ?? '', /view 5.*4 members/)
    assert.deepEqual(problems, [])
    status = { ...status, state: 'training', ring: { ...status.ring, members: memberList(3, 313) } }
    await page.close()
  })

  it('is only read without the token; with it pauses, resumes, and leaves after a question', async () => {
    const { page } = await openPage()
    assert.ok(await page.locator('#controls').isHidden())
    await page.getByRole('button', { name: 'Unlock controls' }).click()
    await page.getByLabel('Token').fill('wrong')
    await page.getByRole('button', { name: 'Unlock', exact: true }).click()
    await page.getByText('does not know this token').waitFor()
    await page.getByLabel('Token').fill(TOKEN)
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.locator('#state', { hasText: 'paused' }).waitFor()
    await page.getByRole('button', { name: 'Resume' }).click()
    await page.locator('#state', { hasText: 'training' }).waitFor()
    await page.getByRole('button', { name: 'Leave ring' }).click()
    await page.getByRole('button', { name: 'Stay' }).click()
    assert.deepEqual(calls, ['pause', 'resume'])
    await page.getByRole('button', { name: 'Leave ring' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Leave ring' }).click()
    await page.locator('#state', { hasText: 'stopping' }).waitFor()
    assert.deepEqual(calls, ['pause', 'resume', 'leave'])
    status = { ...status, state: 'training' }
    await page.close()
  })

  it('takes the token out of the address at once', async () => {
    const { page } = await openPage({ path: `#token=${encodeURIComponent(TOKEN)}` })
    await page.getByRole('button', { name: 'Pause' }).waitFor()
    assert.equal(page.url(), url)
    await page.close()
  })

  it('says that it lost the daemon, and is live again when it is back', async () => {
    const { page } = await openPage()
    const port = Number(new URL(url).port)
    await observatory.stop()
    await page.locator('#live[data-live=no]').waitFor()
    ;[observatory] = await serve(port)
    await page.locator('#live[data-live=yes]').waitFor()
    await page.close()
  })

  it('zooms into a stretch with the pointer and out again with a double click', async () => {
    const { page } = await openPage()
    const asked: URL[] = []
    page.on('request', (request) => {
      if (request.url().includes('api/history')) asked.push(new URL(request.url()))
    })
    const box = await page.locator('#reward-plot .u-over').boundingBox()
    assert.ok(box)
    const y = box.y + box.height / 2
    await page.mouse.move(box.x + box.width * 0.25, y)
    await page.mouse.down()
    await page.mouse.move(box.x + box.width * 0.75, y, { steps: 4 })
    const zoomed = page.waitForResponse((response) => response.url().includes('reward_mean'))
    await page.mouse.up()
    await zoomed
    const zoom = asked.find(({ searchParams }) => searchParams.get('series') === 'reward_mean')?.searchParams
    assert.ok(Math.abs(Number(zoom?.get('from')) - 313) < 15, `from ${zoom?.get('from')}`)
    assert.ok(Math.abs(Number(zoom?.get('to')) - 937) < 15, `to ${zoom?.get('to')}`)
    const back = page.waitForResponse(
      (response) => response.url().includes('reward_mean') && !response.url().includes('from='),
    )
    await page.mouse.dblclick(box.x + box.width / 2, y)
    await back
    await page.close()
  })

  it('holds 64 members with every state told apart, in the drawing and as a table', async () => {
    const before = status
    const members = memberList(64, 313).map((member, i) =>
      i === 5
        ? { ...member, state: 'suspect' as const }
        : i === 9
          ? { ...member, state: 'lost' as const, round: 308 }
          : member,
    )
    status = { ...status, ring: { ...status.ring, members } }
    const { page, problems } = await openPage()
    assert.equal(await page.locator('#ring .member').count(), 64)
    assert.equal(
      await page.locator('#ring-readout').textContent(),
      '62 of 64 members alive · quorum majority',
    )
    await page.getByText('Members as a table').click()
    assert.equal(await page.locator('#members tr').count(), 64)
    assert.match(
      (await page.locator('#members tr').nth(9).textContent()) ?? '',
      new RegExp(`${fakePeerId(9)}lost308`),
    )
    await page.locator('#ring .member').nth(5).hover()
    assert.match((await page.locator('#ring-tip').textContent()) ?? '', new RegExp(`${fakePeerId(5)}silent`))
    assert.deepEqual(problems, [])
    status = before
    await page.close()
  })

  it('names every button and never scrolls sideways, on a wide screen and on a phone', async () => {
    for (const width of [1440, 390]) {
      const { page } = await openPage({ width })
      const [scroll, client] = await page
        .locator('html')
        .evaluate((root: { scrollWidth: number; clientWidth: number }) => [
          root.scrollWidth,
          root.clientWidth,
        ])
      assert.equal(scroll, client)
      for (const button of await page.getByRole('button').all()) {
        assert.ok(
          ((await button.getAttribute('aria-label')) ?? (await button.textContent()) ?? '').trim() !== '',
        )
      }
      await page.close()
    }
  })

  it('looks as in docs/images when it is drawn (SCREENSHOTS=folder keeps the pictures)', async () => {
    const folder = process.env['SCREENSHOTS'] ?? stateDir
    await mkdir(folder, { recursive: true })
    for (const dark of [false, true]) {
      const { page } = await openPage({ dark })
      const picture = await page.screenshot({
        path: join(folder, `dashboard-${dark ? 'dark' : 'light'}.png`),
        animations: 'disabled',
      })
      assert.ok(picture.length > 50_000, 'an empty page is smaller')
      await page.close()
    }
  })
})

describe('the colours of the dashboard', () => {
  it('are readable in both themes: every ink on every ground has contrast 4.5 (WCAG 2.2, 1.4.3)', async () => {
    const themes = await readThemes()
    assert.deepEqual(Object.keys(themes), ['light', 'dark'])
    for (const [theme, colours] of Object.entries(themes)) {
      for (const ink of ['ink', 'soft', 'good', 'busy', 'warn', 'bad', 'still']) {
        for (const ground of ['ground', 'surface']) {
          const ratio = contrast(colours[ink] ?? '', colours[ground] ?? '')
          assert.ok(ratio >= 4.5, `${theme}: ${ink} on ${ground} has contrast ${ratio.toFixed(2)}`)
          const wash = colours[`${ink}-wash`]
          if (wash === undefined) continue
          const washed = contrast(colours[ink] ?? '', blend(wash, colours[ground] ?? ''))
          assert.ok(washed >= 4.5, `${theme}: ${ink} on its wash on ${ground} has ${washed.toFixed(2)}`)
        }
      }
    }
  })
})

/** The custom properties of the themes; the dark one is written twice in the file and must be the same twice. */
async function readThemes(): Promise<Record<'light' | 'dark', Record<string, string>>> {
  const css = await readFile(new URL('../page/style.css', import.meta.url), 'utf8')
  const block = (start: string): Record<string, string> => {
    const body = css.slice(css.indexOf(start)).split('}')[0] ?? ''
    return Object.fromEntries(
      [...body.matchAll(/--([a-z-]+): (#[0-9a-f]+);/g)].map(([, name, value]) => [name, value]),
    )
  }
  const dark = block(":root[data-theme='dark'] {")
  assert.deepEqual(block(":root[data-theme='auto'] {"), dark)
  return { light: block(':root {'), dark }
}

/** Contrast of two colours `#rrggbb` by WCAG 2.2, relative luminance. */
function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
  return ((high ?? 0) + 0.05) / ((low ?? 0) + 0.05)
}

/** `#rrggbbaa` over `#rrggbb`. */
function blend(over: string, under: string): string {
  const alpha = parseInt(over.slice(7, 9), 16) / 255
  const mixed = [1, 3, 5].map((i) => {
    const [top, bottom] = [over, under].map((colour) => parseInt(colour.slice(i, i + 2), 16))
    return Math.round(alpha * (top ?? 0) + (1 - alpha) * (bottom ?? 0))
  })
  return `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`
}

function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((i) => {
    const c = parseInt(colour.slice(i, i + 2), 16) / 255
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}
