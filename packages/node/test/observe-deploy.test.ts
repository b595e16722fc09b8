/** The files for containers and Kubernetes agree with each other and with the daemon. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parse, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { loadConfig } from '../src/config/load.ts'

const ROOT = new URL('../../../', import.meta.url)
const BASE = new URL('deploy/base/', ROOT)
const run = promisify(execFile)

const labels = z.record(z.string(), z.string())
const port = z.object({ name: z.string(), containerPort: z.number() })
const probe = z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) })
const statefulSet = z.object({
  kind: z.literal('StatefulSet'),
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    serviceName: z.string(),
    replicas: z.number(),
    podManagementPolicy: z.literal('Parallel'),
    selector: z.object({ matchLabels: labels }),
    template: z.object({
      metadata: z.object({ labels }),
      spec: z.object({
        securityContext: z.object({
          runAsNonRoot: z.literal(true),
          runAsUser: z.number(),
          fsGroup: z.number(),
        }),
        containers: z.tuple([
          z.object({
            args: z.array(z.string()),
            ports: z.array(port),
            securityContext: z.object({
              allowPrivilegeEscalation: z.literal(false),
              readOnlyRootFilesystem: z.literal(true),
              capabilities: z.object({ drop: z.tuple([z.literal('ALL')]) }),
            }),
            startupProbe: probe,
            livenessProbe: probe,
            readinessProbe: probe,
            volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
          }),
        ]),
        volumes: z.array(
          z.object({ name: z.string(), configMap: z.object({ name: z.string() }).optional() }),
        ),
      }),
    }),
    volumeClaimTemplates: z.array(z.object({ metadata: z.object({ name: z.string() }) })),
  }),
})
const service = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    clusterIP: z.literal('None'),
    publishNotReadyAddresses: z.literal(true),
    selector: labels,
    ports: z.array(z.object({ name: z.string(), port: z.number(), targetPort: z.string() })),
  }),
})
const kustomization = z.object({
  resources: z.array(z.string()),
  configMapGenerator: z.tuple([z.object({ name: z.string(), files: z.array(z.string()) })]),
})

async function read(path: string): Promise<unknown> {
  return parse(await readFile(new URL(path, ROOT), 'utf8'))
}

describe('the Kubernetes base', () => {
  it('is complete: every resource file is listed and every listed file is there', async () => {
    const { resources, configMapGenerator } = kustomization.parse(
      await read('deploy/base/kustomization.yaml'),
    )
    const listed = [...resources, ...configMapGenerator[0].files, 'kustomization.yaml']
    assert.deepEqual((await readdir(BASE)).sort(), listed.sort())
  })

  it('hangs together: selectors, names, ports, volumes and probes', async () => {
    const set = statefulSet.parse(await read('deploy/base/statefulset.yaml'))
    const headless = service.parse(await read('deploy/base/services.yaml'))
    const { configMapGenerator } = kustomization.parse(await read('deploy/base/kustomization.yaml'))
    const pod = set.spec.template
    const [container] = pod.spec.containers
    assert.equal(set.spec.serviceName, headless.metadata.name)
    for (const selector of [set.spec.selector.matchLabels, headless.spec.selector]) {
      for (const [key, value] of Object.entries(selector)) assert.equal(pod.metadata.labels[key], value)
    }
    const ports = new Map(container.ports.map(({ name, containerPort }) => [name, containerPort]))
    for (const entry of headless.spec.ports) assert.equal(ports.get(entry.targetPort), entry.port)
    const volumes = [
      ...pod.spec.volumes,
      ...set.spec.volumeClaimTemplates.map(({ metadata }) => metadata),
    ].map(({ name }) => name)
    for (const { name } of container.volumeMounts) assert.ok(volumes.includes(name), `volume ${name}`)
    assert.ok(pod.spec.volumes.some(({ configMap }) => configMap?.name === configMapGenerator[0].name))
    for (const { httpGet } of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
      assert.ok(ports.has(httpGet.port))
    }
    assert.equal(
      container.livenessProbe.httpGet.path,
      '/healthz',
      'a daemon that waits for peers must not be killed',
    )
    assert.equal(container.readinessProbe.httpGet.path, '/readyz')
  })

  it('configures a daemon that starts: the keys are right, ports and names are those of the pods', async () => {
    const { config } = await load('deploy/base/gym.yaml')
    const set = statefulSet.parse(await read('deploy/base/statefulset.yaml'))
    const [container] = set.spec.template.spec.containers
    const ports = new Map(container.ports.map(({ name, containerPort }) => [name, containerPort]))
    assert.equal(config.http.port, ports.get('http'))
    const names = Array.from(
      { length: set.spec.replicas },
      (_, i) => `/dns4/${set.metadata.name}-${i}.${set.spec.serviceName}/tcp/${ports.get('ring')}`,
    )
    assert.deepEqual(config.ring.bootstrap, names)
    assert.equal(config.state_dir, container.volumeMounts.find(({ name }) => name === 'state')?.mountPath)
    assert.ok(
      container.args.includes(
        `${container.volumeMounts.find(({ name }) => name === 'config')?.mountPath}/gym.yaml`,
      ),
    )
  })

  const kubectl = ['/usr/bin/kubectl', '/usr/local/bin/kubectl'].find((path) => existsSync(path))
  const skip = kubectl === undefined ? 'no kubectl here (apt-get install kubernetes-client)' : false
  it('is rendered by kubectl kustomize', { skip }, async () => {
    const { stdout } = await run(kubectl ?? '', ['kustomize', fileURLToPath(BASE)])
    const documents = parseAllDocuments(stdout).map(
      (document) => document.toJS() as { kind: string; metadata: { name: string } },
    )
    assert.deepEqual(documents.map(({ kind }) => kind).sort(), [
      'ConfigMap',
      'NetworkPolicy',
      'PodDisruptionBudget',
      'Service',
      'StatefulSet',
    ])
    const configMap = documents.find(({ kind }) => kind === 'ConfigMap')?.metadata.name ?? ''
    assert.match(configMap, /^gym-node-\w{10}$/)
    assert.ok(stdout.includes(`name: ${configMap}\n        name: config`), 'the pods use the generated name')
    assert.match(stdout, /image: gym-node:0\.1\.0/)
  })
})

describe('the container files', () => {
  it('run as the user that the base of Kubernetes names, and check the health that the daemon serves', async () => {
    const dockerfile = await readFile(new URL('docker/Dockerfile', ROOT), 'utf8')
    const set = statefulSet.parse(await read('deploy/base/statefulset.yaml'))
    const { runAsUser, fsGroup } = set.spec.template.spec.securityContext
    assert.match(dockerfile, new RegExp(`^USER ${runAsUser}:${fsGroup}$`, 'm'))
    const { config } = await load('docker/gym.yaml')
    assert.ok(dockerfile.includes(`http://127.0.0.1:${config.http.port}/healthz`))
    assert.match(dockerfile, new RegExp(`^EXPOSE 4160 ${config.http.port}$`, 'm'))
  })

  it('compose a ring whose nodes, scrape targets and bootstrap names agree', async () => {
    const compose = z
      .object({
        services: z.record(
          z.string(),
          z.object({ hostname: z.string().optional(), volumes: z.array(z.string()).optional() }),
        ),
        volumes: z.record(z.string(), z.unknown()),
      })
      .parse(parse(await readFile(new URL('docker/compose.yaml', ROOT), 'utf8'), { merge: true }))
    const nodes = Object.entries(compose.services).filter(([, { hostname }]) => hostname !== undefined)
    assert.deepEqual(
      nodes.map(([name, { hostname }]) => [name, hostname]),
      ['gym-node-1', 'gym-node-2', 'gym-node-3'].map((name) => [name, name]),
    )
    const states = nodes
      .flatMap(([, { volumes }]) => volumes ?? [])
      .filter((volume) => volume.startsWith('state-'))
    assert.equal(new Set(states).size, 3, 'no two daemons share a state folder')
    for (const state of states) assert.ok((state.split(':')[0] ?? '') in compose.volumes)
    const { config } = await load('docker/gym.yaml')
    assert.deepEqual(
      config.ring.bootstrap,
      nodes.map(([name]) => `/dns4/${name}/tcp/4160`),
    )
    const prometheus = await readFile(new URL('docker/prometheus/prometheus.yml', ROOT), 'utf8')
    for (const [name] of nodes) assert.ok(prometheus.includes(`'${name}:${config.http.port}'`))
  })

  const promtool = '/usr/bin/promtool'
  const noPromtool = existsSync(promtool) ? false : 'no promtool here (apt-get install prometheus)'
  it(
    'configure a Prometheus that accepts them, with alerts that fire when they should',
    { skip: noPromtool },
    async () => {
      const folder = fileURLToPath(new URL('docker/prometheus/', ROOT))
      const config = await run(promtool, ['check', 'config', 'prometheus.yml'], { cwd: folder })
      assert.match(config.stdout, /SUCCESS: prometheus.yml is valid/)
      const alerts = await run(promtool, ['test', 'rules', 'rules.test.yml'], { cwd: folder })
      assert.match(alerts.stdout, /SUCCESS/)
    },
  )

  it('are shell scripts that a POSIX shell can read', async () => {
    for (const script of ['up.sh', 'make-base.sh', 'test-ring.sh'])
      await run('sh', ['-n', fileURLToPath(new URL(`docker/${script}`, ROOT))])
  })
})

/** The configuration as the image's environment makes it. */
function load(path: string): ReturnType<typeof loadConfig> {
  const env = { GYM_STATE_DIR: '/var/lib/gym-node' }
  return loadConfig({ file: fileURLToPath(new URL(path, ROOT)), env, flags: new Map(), cwd: '/' })
}
