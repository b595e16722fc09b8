"""PEFT folders to DELTA files and back, checked by PEFT itself. Run by hand; needs torch, transformers and peft.

    python test/interop/peft_round_trip.py packages/node/demo/arith-model

Makes a random LoRA with PEFT, imports and exports it with `gym-node delta`, merges it with `gym-node delta merge`, and
compares logits: the adapter that came back with the one that was made, the merged model with `merge_and_unload`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
IDS = torch.tensor([[53, 50, 43, 52, 56, 61, 49, 48]])


def gym_node(*arguments):
    subprocess.run(["node", ROOT / "packages/node/bin/gym-node.js", "delta", *map(str, arguments)], check=True)


def load(model):
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def main(model):
    with tempfile.TemporaryDirectory() as folder:
        made, back, merged, delta = (Path(folder) / name for name in ("made", "back", "merged", "adapter.delta"))
        torch.manual_seed(5)
        config = LoraConfig(
            r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "o_proj", "up_proj"], task_type="CAUSAL_LM"
        )
        adapter = get_peft_model(load(model), config)
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        adapter.save_pretrained(made)
        gym_node("import", made, "--model", model, "--out", delta)
        gym_node("export", delta, "--out", back)
        gym_node("merge", "--model", model, "--adapter", made, "--out", merged)
        wanted = PeftModel.from_pretrained(load(model), made)
        there = logits(wanted)
        again = logits(PeftModel.from_pretrained(load(model), back))
        print(f"the adapter moves logits by up to {(there - logits(load(model))).abs().max():.3g}")
        print(f"PEFT -> DELTA -> PEFT: largest difference {(there - again).abs().max():.3g}")
        unloaded = logits(wanted.merge_and_unload())
        print(f"delta merge against merge_and_unload: {(logits(load(merged)) - unloaded).abs().max():.3g}")
        assert torch.equal(there, again)
        assert torch.allclose(logits(load(merged)), unloaded, atol=1e-4)


if __name__ == "__main__":
    main(sys.argv[1])
