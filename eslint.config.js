/** Lint rules: type-aware promise rules everywhere, and the direction of dependency between packages. */
import eslint from '@eslint/js'
import tseslint from 'typescript-eslint'

/** Packages that a package may not import; the allowed direction is wire <- ring <- node and gspo <- node. */
const FORBIDDEN = {
  wire: [
    '@gym-node/ring',
    '@gym-node/gspo',
    'gym-node',
    'libp2p',
    '@libp2p/*',
    'onnxruntime-node',
    'node:fs',
    'node:fs/promises',
    'node:net',
  ],
  ring: ['@gym-node/gspo', 'gym-node', 'onnxruntime-node'],
  gspo: ['@gym-node/wire', '@gym-node/ring', 'gym-node', 'libp2p', '@libp2p/*'],
}

const direction = Object.entries(FORBIDDEN).map(([name, group]) => ({
  files: [`packages/${name}/src/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          { group, message: `packages/${name} must not depend on this: see ARCHITECTURE.md` },
          { group: ['../../*/src/*', '../../../*/src/*'], message: 'import another package by its name' },
        ],
      },
    ],
  },
}))

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'test/golden/**', 'packages/node/demo/**'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            {
              from: 'package',
              package: 'node:test',
              name: ['it', 'test', 'describe', 'suite', 'before', 'after'],
            },
          ],
        },
      ],
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-console': 'error',
      'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ['test/**/*.ts', 'packages/*/test/**/*.ts', 'bench/**/*.ts'], rules: { 'no-console': 'off' } },
  {
    files: ['**/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
  ...direction,
)
