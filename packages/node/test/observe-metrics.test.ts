/** What a scrape holds before anything has happened. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { Metrics } from '../src/observe/metrics.ts'

it('counters that alerts watch are there from the beginning, at zero: a first event is an increase', async () => {
  const text = await new Metrics().registry.metrics()
  for (const line of [
    'gym_node_deltas_total{verified="false"} 0',
    'gym_node_deltas_total{verified="true"} 0',
    'gym_node_verdicts_total{result="rejected"} 0',
    'gym_node_observe_faults_total{part="history"} 0',
    'gym_node_errors_total{code="OTHER"} 0',
  ])
    assert.ok(text.split('\n').includes(line), line)
})
