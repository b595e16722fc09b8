/** Which member goes when rounds keep failing: one that spoils them all is left out, those it accuses come back. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { MachineRig } from './machine-rig.ts'

const IDS = ['a', 'b', 'c', 'd', 'e']

const membersOf = (rig: MachineRig, id: string): string[] =>
  rig.durable(id).view?.members.map(({ peer }) => peer) ?? []

/** One round that `hostile` spoils: its successor finds out and says so; it says it was its successor. */
function spoilRound(rig: MachineRig, hostile: string, round: number): void {
  const members = membersOf(rig, 'a')
  const next = (id: string): string => members[(members.indexOf(id) + 1) % members.length]
  const victim = next(hostile)
  for (const id of members) rig.contribute(id, round)
  rig.deliver()
  for (const id of members) {
    const { epoch } = rig.state(id).durable.view ?? { epoch: 0 }
    const [code, peer] =
      id === victim
        ? (['BAD_SIGNATURE', hostile] as const)
        : id === hostile
          ? (['PEER_LOST', victim] as const)
          : (['BROKEN_OFF', id === next(victim) ? victim : next(id)] as const)
    rig.post(id, { on: 'failed', epoch, round, code, peer })
  }
  for (let k = 0; k < 10; k += 1) rig.pass(50)
}

/** Spoils rounds until the view has other members; returns how many it took. */
function spoilUntilChange(rig: MachineRig, hostile: string): number {
  const before = membersOf(rig, 'a').join()
  for (let rounds = 1; rounds <= 20; rounds += 1) {
    spoilRound(rig, hostile, 1)
    for (let k = 0; k < 20; k += 1) rig.pass(50)
    if (membersOf(rig, 'a').join() !== before) return rounds
  }
  return Infinity
}

describe('a member that spoils every round', () => {
  for (const hostile of ['b', 'c', 'd', 'e']) {
    it(`${hostile}: is gone after its second victim at the latest, and nobody but victims goes before it`, () => {
      const rig = new MachineRig(IDS)
      const gone: string[] = []
      const victims: string[] = []
      while (!gone.includes(hostile) && gone.length < IDS.length) {
        const before = membersOf(rig, 'a')
        victims.push(before[(before.indexOf(hostile) + 1) % before.length])
        assert.ok(spoilUntilChange(rig, hostile) <= 3, 'three strikes')
        gone.push(...before.filter((id) => !membersOf(rig, 'a').includes(id)))
      }
      assert.equal(gone.at(-1), hostile)
      assert.ok(gone.length <= 2, `gone: ${gone.join()}`)
      for (const id of gone.slice(0, -1)) assert.ok(victims.includes(id), `${id} was never beside it`)
    })
  }

  it('cannot have a third one left out for passing on that the round is over', () => {
    const rig = new MachineRig(IDS)
    for (let round = 0; round < 4; round += 1) spoilRound(rig, 'b', 1)
    // The members behind the victim and before the hostile one heard BROKEN_OFF four times, and accuse nobody.
    for (const id of ['a', 'e'])
      assert.deepEqual(
        [...rig.state(id).strikes.values()].filter((n) => n >= 3),
        [],
      )
  })
})
