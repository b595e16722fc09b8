import { createOnnxCpuEngine } from '../src/engine/onnx-cpu.ts'
import { engineCompliance } from './engine-compliance.ts'

engineCompliance('onnx-cpu', async () => createOnnxCpuEngine({ threads: 1 }))
