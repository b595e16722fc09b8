/** What `service install` finds before systemd would: folders closed to the service's user, and state kept elsewhere. */
import assert from 'node:assert/strict'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { temporaryFolder } from '../../../test/e2e/daemon-harness.ts'
import { configTemplate } from '../src/config/template.ts'
import { checkService } from '../src/service-check.ts'
import { SERVICE_STATE_DIR } from '../src/service-unit.ts'

it('finds nothing in what everybody can read, and names each file and folder that the service cannot', async (t) => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o755)
  const [config, model, dataset] = ['gym.yaml', 'model', 'train.jsonl'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await mkdir(model, { mode: 0o755 })
  await writeFile(dataset, '{"prompt": "1+1=", "answer": "2"}\n', { mode: 0o644 })
  const write = (stateDir: string | null): Promise<void> =>
    writeFile(config, configTemplate({ model, dataset, stateDir }), { mode: 0o644 })
  await write(SERVICE_STATE_DIR)
  assert.deepEqual(await checkService([], config), [])

  await chmod(dataset, 0o600)
  assert.deepEqual(await checkService([], config), [
    `${dataset} cannot be read by the service's user: chmod o+r ${dataset}`,
  ])
  await chmod(dataset, 0o644)
  await write(null)
  const [elsewhere, ...rest] = await checkService([], config)
  assert.match(elsewhere ?? '', /state_dir .*gym-state, the service uses \/var\/lib\/gym-node/)
  assert.deepEqual(rest, [])

  await chmod(folder, 0o700)
  const closed = await checkService([], config)
  assert.match(closed[0] ?? '', /closed to the service's user, who needs .*gym\.yaml: chmod o\+x/)
})

it('says that the configuration is not there or is wrong', async (t) => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o755)
  const config = join(folder, 'gym.yaml')
  assert.match((await checkService([], config)).join('\n'), /gym\.yaml: ENOENT.*\n.*no configuration at/)
  await writeFile(config, 'jbo: x\n', { mode: 0o644 })
  assert.match((await checkService([], config)).join('\n'), /did you mean "job"/)
})
