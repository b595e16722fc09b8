"""Records merged.json: what PEFT's merge_and_unload makes of the golden models and adapters.

usage: python record.py > merged.json     (from the repository's root; needs torch, transformers, peft)
"""

import json
import sys

import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

CASES = {
    "qwen3-tied/qv": ("test/golden/models/qwen3-tied", "test/golden/rl/qwen3-tied/qv/adapter"),
    "qwen3-tied/all": ("test/golden/models/qwen3-tied", "test/golden/rl/qwen3-tied/all/adapter"),
    "arith": ("test/golden/arith/model", "test/golden/arith/adapter-trl-gspo-500steps"),
}

out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}}
for name, (model_dir, adapter_dir) in CASES.items():
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    before = {k: v.clone() for k, v in base.state_dict().items()}
    merged = PeftModel.from_pretrained(base, adapter_dir).merge_and_unload().state_dict()
    tensors = {}
    for key, value in merged.items():
        difference = value - before[key]
        if not difference.any():
            continue
        tensors[key] = {
            "shape": list(value.shape),
            "norm": value.double().norm().item(),
            "difference_norm": difference.double().norm().item(),
            "first": value.flatten()[:4].tolist(),
            "last": value.flatten()[-4:].tolist(),
        }
    out[name] = tensors
json.dump(out, sys.stdout, indent=1)
