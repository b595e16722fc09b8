/** Chat messages as prompts: the trainer sees what the model's own chat template makes of them. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts'
import { createTrainer } from '../src/trainer.ts'
import { ARITH } from './arith.ts'

describe('a data set of chat messages', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-chat-'))
    await cp(ARITH.model, join(dir, 'model'), { recursive: true })
    const template =
      '{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{{ opening }}{% endif %}'
    await writeFile(join(dir, 'model', 'chat_template.jinja'), template)
    await writeFile(
      join(dir, 'chat.jsonl'),
      `${JSON.stringify({ prompt: [{ role: 'user', content: '1+2=' }], answer: '3' })}\n`,
    )
  })
  after(() => rm(dir, { recursive: true }))

  it('goes through the template of the model folder, special tokens and all', async () => {
    const model = join(dir, 'model')
    const trainer = await createTrainer({
      model,
      dataset: join(dir, 'chat.jsonl'),
      prompts_per_step: 1,
      group_size: 2,
      max_completion_length: 4,
      threads: 1,
      chat_template_kwargs: { opening: 'a:' },
    })
    try {
      const { trace, samples } = await trainer.step()
      // 257 is <|im_start|>, 258 <|im_end|> (README of the demo model); every other id is its byte.
      const expected = [257, ...Buffer.from('user:1+2='), 258, 257, ...Buffer.from('a:')]
      assert.deepEqual([...(trace.groups[0]?.promptIds ?? [])], expected)
      assert.equal(samples[0]?.prompt, 'user: 1+2=')
      const tokenizer = await loadTokenizer(model, { opening: 'a:' })
      assert.deepEqual([...tokenizer.encodePrompt([{ role: 'user', content: '1+2=' }])], expected)
    } finally {
      await trainer.close()
    }
  })
})
