/** The tokenizer of the demo model against ids made with Hugging Face tokenizers (golden arith), and chat templates. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { encodeRow } from '../src/sft/run-sft.ts'
import { createChatTemplate } from '../src/tokenizer/chat-template.ts'
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts'
import { ARITH } from './arith.ts'

const golden = JSON.parse(
  readFileSync(new URL('../../../test/golden/arith/arith.json', import.meta.url), 'utf8'),
) as {
  tokenizer: { text: string; ids: number[]; decoded: string }[]
}

describe('loadTokenizer', async () => {
  const tokenizer = await loadTokenizer(ARITH.model)
  for (const { text, ids, decoded } of golden.tokenizer)
    it(`encodes and decodes ${JSON.stringify(text)} as Hugging Face does`, () => {
      assert.deepEqual([...tokenizer.encode(text)], ids)
      assert.equal(tokenizer.decode(ids, { keepSpecial: true }), decoded)
    })
  it('leaves special tokens out of the text by default', () =>
    assert.equal(tokenizer.decode([52, 54, 258]), '46'))
  it('begins a prompt with the token of a start where the tokenizer has one, and no answer after it', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'gspo-start-'))
    try {
      // As Llama 3's tokenizer.json adds its <|begin_of_text|>.
      const start = { SpecialToken: { id: '<|im_start|>', type_id: 0 } }
      const definition = JSON.parse(readFileSync(join(ARITH.model, 'tokenizer.json'), 'utf8')) as object
      const post_processor = {
        type: 'TemplateProcessing',
        single: [start, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [start, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
        special_tokens: { '<|im_start|>': { id: '<|im_start|>', ids: [257], tokens: ['<|im_start|>'] } },
      }
      await writeFile(join(dir, 'tokenizer.json'), JSON.stringify({ ...definition, post_processor }))
      const llama = await loadTokenizer(dir)
      assert.deepEqual([...llama.encodePrompt('1=')], [257, 49, 61])
      const { promptIds, tokens } = encodeRow(llama, { prompt: '1=', answer: '1', columns: {} }, 0, 258)
      assert.deepEqual(
        [[...promptIds], [...tokens]],
        [
          [257, 49, 61],
          [49, 258],
        ],
      )
    } finally {
      await rm(dir, { recursive: true })
    }
  })
  it('gives text back as it was, spaces before punctuation too, whatever tokenizer_config.json wants cleaned', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'gspo-spaces-'))
    try {
      await cp(join(ARITH.model, 'tokenizer.json'), join(dir, 'tokenizer.json'))
      const text = "1 , 2 . It 's n't ok ?"
      for (const config of ['{}', '{"clean_up_tokenization_spaces": true}']) {
        await writeFile(join(dir, 'tokenizer_config.json'), config)
        const plain = await loadTokenizer(dir)
        assert.equal(plain.decode(plain.encode(text)), text)
      }
    } finally {
      await rm(dir, { recursive: true })
    }
  })
  it('refuses chat messages for a model without a template', () =>
    assert.throws(() => tokenizer.encodePrompt([{ role: 'user', content: 'hi' }]), {
      code: 'BAD_TOKENIZER',
      message: /no chat template/,
    }))
})

describe('a bad tokenizer folder', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-tokenizer-'))
  })
  after(() => rm(dir, { recursive: true }))

  it('names the missing file', () =>
    assert.rejects(loadTokenizer(dir), { code: 'FILE_MISSING', message: /tokenizer\.json/ }))
  it('names the file that is not JSON', async () => {
    await writeFile(join(dir, 'tokenizer.json'), '{"model": ')
    await assert.rejects(loadTokenizer(dir), {
      code: 'BAD_TOKENIZER',
      message: /tokenizer\.json is not valid JSON/,
    })
  })
  it('refuses JSON that is no tokenizer', async () => {
    await writeFile(join(dir, 'tokenizer.json'), '{}')
    await assert.rejects(loadTokenizer(dir), { code: 'BAD_TOKENIZER', message: /no "model"/ })
  })
})

describe('createChatTemplate', () => {
  // The shape of Qwen's template; the expected text is written out by hand.
  const source =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  const expected = '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n'
  const messages = [{ role: 'user', content: 'hi' }]

  it('renders messages up to the answer', () =>
    assert.equal(createChatTemplate({ chat_template: source }, undefined, 'm').render(messages), expected))
  it('takes the template named default from a list', () =>
    assert.equal(
      createChatTemplate(
        {
          chat_template: [
            { name: 'tools', template: 'x' },
            { name: 'default', template: source },
          ],
        },
        undefined,
        'm',
      ).render(messages),
      expected,
    ))
  it('prefers chat_template.jinja', () =>
    assert.equal(
      createChatTemplate({ chat_template: 'old' }, '{{ bos_token }}new', 'm').render(messages),
      'new',
    ))
  it('passes special tokens, written as text or object', () =>
    assert.equal(
      createChatTemplate(
        { bos_token: { content: '<s>' }, eos_token: '</s>' },
        '{{ bos_token }}{{ eos_token }}',
        'm',
      ).render(messages),
      '<s></s>',
    ))
  it('passes no tools as none, as transformers does, and variables of the caller', () => {
    const template =
      '{% if tools is defined and tools is none %}no tools{% endif %}{% if enable_thinking is defined and not enable_thinking %}, no thinking{% endif %}'
    assert.equal(createChatTemplate({}, template, 'm').render(messages), 'no tools')
    assert.equal(
      createChatTemplate({}, template, 'm', { enable_thinking: false }).render(messages),
      'no tools, no thinking',
    )
  })
  it('reports what the template itself refuses', () =>
    assert.throws(
      () =>
        createChatTemplate({}, "{{ raise_exception('roles must alternate') }}", 'my-model').render(messages),
      { code: 'BAD_TOKENIZER', message: /my-model.*roles must alternate/ },
    ))
})
