/** The systemd unit of the daemon as text. Pure; `systemd/gym-node.service` is this text with the usual paths. */
import { EXIT_CODES } from './exit-codes.ts'

/** What differs between machines. */
export interface UnitPaths {
  /** Node and the script, as they are run. */
  readonly command: readonly string[]
  readonly config: string
}

/** Paths of a global npm installation with a distribution's Node. */
export const USUAL_PATHS: UnitPaths = {
  command: ['/usr/bin/node', '/usr/lib/node_modules/gym-node/bin/gym-node.js'],
  config: '/etc/gym-node/gym.yaml',
}

/** What `StateDirectory=gym-node` below is on disk: the service keeps its state there, whatever `state_dir` says. */
export const SERVICE_STATE_DIR = '/var/lib/gym-node'

/** Exit codes after which a restart changes nothing until somebody acts. */
const HOPELESS = [EXIT_CODES.usage, EXIT_CODES.check_failed, EXIT_CODES.state, EXIT_CODES.input].map(
  ({ code }) => code,
)

/** The unit. */
export function serviceUnit({ command, config }: UnitPaths): string {
  return `# gym-node as a service. Written by: gym-node service install
[Unit]
Description=gym-node, a worker that trains a language model with its peers
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=10min
StartLimitBurst=10

[Service]
Type=notify
# systemd-notify, a child of the daemon, sends the messages.
NotifyAccess=all
ExecStart=${[...command, 'start', '--config', config].map(quote).join(' ')} --state-dir \${STATE_DIRECTORY}
Environment=GYM_LOG_FORMAT=json
ExecReload=/bin/kill -HUP $MAINPID
# Loading a large model takes minutes.
TimeoutStartSec=30min
TimeoutStopSec=60
WatchdogSec=120
KillMode=mixed
Restart=on-failure
RestartSec=5
# Configuration, a check, the state folder, or input: a restart mends none of them.
RestartPreventExitStatus=${HOPELESS.join(' ')}

# A user of its own that exists only while the service runs, and /var/lib/gym-node, which it owns.
DynamicUser=yes
StateDirectory=gym-node
StateDirectoryMode=0700
# Prepared weights and compiled code; may be deleted while the service is stopped.
CacheDirectory=gym-node
CacheDirectoryMode=0700
UMask=0077
# An identity that is kept outside the state folder, for example encrypted with systemd-creds:
#LoadCredential=ed25519.seed:/etc/gym-node/ed25519.seed
#LoadCredential=ml-dsa-87.seed:/etc/gym-node/ml-dsa-87.seed

# No privileges, a read-only system, no devices but GPUs, no system calls but a service's.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
# Not PrivateDevices, which hides GPUs. NVIDIA's devices have other names before and since driver 545. Where
# /dev/dri/renderD128 belongs to the group render, add with systemctl edit: SupplementaryGroups=render
DevicePolicy=closed
DeviceAllow=char-drm rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidiactl rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
# MemoryDenyWriteExecute stays off: V8 compiles at run time.

[Install]
WantedBy=multi-user.target
`
}

/** Quotes an argument as systemd reads it. */
function quote(text: string): string {
  return /^[\w/.@:+-]+$/.test(text)
    ? text
    : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`
}
