import { createTfjsEngine } from '../src/engine/tfjs.ts'
import { engineCompliance } from './engine-compliance.ts'

engineCompliance('tfjs', () => createTfjsEngine({ threads: 1 }))
