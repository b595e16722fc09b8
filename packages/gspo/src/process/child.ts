/**
 * The engine process: runs one trainer for its parent and exits when the parent closes it, disconnects or dies.
 * Calls run in order; a cancel message reaches the running one between two engine calls.
 */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { GspoError } from '../errors.ts'
import { createTrainer } from '../trainer.ts'
import type { Trainer } from '../trainer-types.ts'
import { packError } from './protocol.ts'
import type { CallMessage, ChildMessage, ParentMessage, TrainerCalls } from './protocol.ts'

const cancels = new Map<number, AbortController>()
let trainer: Trainer | undefined

process.on('message', (message: ParentMessage) => {
  if (message.kind === 'cancel') {
    cancels.get(message.id)?.abort()
    return
  }
  void answer(message) // answer() catches everything and reports it to the parent
})

// The channel closes when the parent exits, however it dies: nobody is left to work for.
process.on('disconnect', () => process.exit(0))
// Ctrl+C and a service manager's SIGTERM reach every process of the group; the parent decides what they mean.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

async function answer(call: CallMessage): Promise<void> {
  const cancel = new AbortController()
  cancels.set(call.id, cancel)
  try {
    const result = await perform(call, cancel.signal)
    send({ kind: 'result', id: call.id, result })
  } catch (error) {
    send({ kind: 'failure', id: call.id, error: packError(error) })
  } finally {
    cancels.delete(call.id)
  }
}

async function perform(
  call: CallMessage,
  signal: AbortSignal,
): Promise<TrainerCalls[keyof TrainerCalls]['result']> {
  // Lets a cancel that was sent right behind its call be read before the engine takes the thread.
  await yieldToEvents()
  switch (call.name) {
    case 'open':
      trainer = await createTrainer(call.argument)
      return trainer.info
    case 'step':
      return opened().step({ signal })
    case 'replay':
      return opened().replay(call.argument.steps, { ...call.argument, signal })
    case 'readAdapter':
      return opened().readAdapter()
    case 'writeAdapter':
      await opened().writeAdapter(call.argument)
      return null
    case 'evaluate':
      return opened().evaluate({ ...call.argument, signal })
    case 'exportState':
      return opened().exportState()
    case 'importState':
      await opened().importState(call.argument)
      return null
    case 'exportAdapter':
      await opened().exportAdapter(call.argument)
      return null
    case 'close':
      await trainer?.close()
      return null
  }
}

function opened(): Trainer {
  if (trainer === undefined) throw new GspoError('CLOSED', 'the engine process has no open trainer')
  return trainer
}

function send(message: ChildMessage): void {
  // A failed send means the parent is gone; the disconnect event ends this process.
  process.send?.(message, undefined, {}, () => undefined)
}
