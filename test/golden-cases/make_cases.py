"""Makes the golden cases of this repository that are not in the public set, in the layout of golden/README.md.

  python make_cases.py models OUT     transformers 5: tiny random checkpoints, logits, greedy ids
  python make_cases.py rl OUT         transformers 4: PEFT adapters, losses, gradients, five AdamW steps
  python make_cases.py check GOLDEN   transformers 4: rl/qwen3-moe/qv of the public set, computed again by this script

Long cases (qwen3-next-long) lie in test/golden-long, the others in test/golden; OUT holds both, and the public
models/qwen3-next. Two versions because in transformers 4 every expert is made of Linear modules, as in checkpoints, so that PEFT puts a
LoRA on each; in transformers 5 experts are fused. `rl` also compares the logits of both versions.
The losses are golden/FORMULAS.md in torch; `check` shows that they are TRL's.
"""
import json
import os
import platform
import sys

os.environ["TRANSFORMERS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
R, ALPHA = 2, 4
RATIOS = [1.0008, 1.0009, 0.9993, 0.9994, 1.00015, 0.9998, 0.99945, 1.0007]
REWARDS = [1.0, 0.0, 0.0, 1.0, 0.2, 0.9, 0.4, 0.55]
EPS_LOW, EPS_HIGH = 3e-4, 4e-4
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
NEXT = ["in_proj_qkvz", "in_proj_ba", "out_proj", "gate_proj", "up_proj", "down_proj"]

TINY_MIXTRAL = dict(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=256,
                    rms_norm_eps=1e-5, sliding_window=None, tie_word_embeddings=False)
TINY_NEXT = dict(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
                 linear_key_head_dim=8, linear_value_head_dim=12, linear_conv_kernel_dim=4, num_experts=4,
                 num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16,
                 decoder_sparse_step=2, max_position_embeddings=512, tie_word_embeddings=False)
# name -> config class, keyword arguments, rope theta, lengths of the rows of input_ids
MODELS = {
    "mixtral": ("Mixtral", TINY_MIXTRAL, 1e6, [19, 13, 7]),
    # Rows longer than one and two chunks of 64 tokens, and one shorter.
    "qwen3-next-long": ("Qwen3Next", TINY_NEXT, 1e7, [150, 70, 20]),
}
# folder -> base model (public ones are beside OUT), LoRA targets, prompt lengths, completion lengths, cases
RL = {
    "mixtral/all": ("mixtral", ATTENTION + ["w1", "w2", "w3"], [9, 5], [12, 7, 12, 3, 9, 1, 12, 5], "all"),
    "qwen3-next-long/all": ("qwen3-next-long", ATTENTION + NEXT, [130, 90], [80, 70, 12, 3, 66, 1, 20, 5], "all"),
    "qwen3-next/linear": ("qwen3-next", ATTENTION + NEXT[:3], [9, 5], [12, 7, 12, 3, 9, 1, 12, 5], "few"),
}


def model_class(name):
    import transformers
    return getattr(transformers, f"{name}ForCausalLM"), getattr(transformers, f"{name}Config")


def randomise(model, seed):
    """Weights large enough that every part of the model matters; decays slow enough to cross chunks."""
    gen = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=gen)
        if name.endswith("A_log"):
            p.data = torch.log(0.02 + torch.rand(p.shape, generator=gen))
        elif name.endswith("dt_bias"):
            p.data = noise - 1
        elif "norm" in name:
            p.data = p.data + 0.1 * noise
        elif "embed_tokens" in name:
            p.data = noise
        elif "conv1d" in name:
            p.data = 0.5 * noise
        else:
            p.data = noise / p.shape[-1] ** 0.5


def versions():
    import numpy, peft, safetensors, transformers
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "peft": peft.__version__, "safetensors": safetensors.__version__, "numpy": numpy.__version__}


def right_padded(rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def make_models(out):
    for index, (name, (family, kwargs, theta, lengths)) in enumerate(MODELS.items()):
        cls, config_cls = model_class(family)
        config = config_cls(**kwargs, rope_parameters={"rope_type": "default", "rope_theta": theta},
                            bos_token_id=1, eos_token_id=2, pad_token_id=0)
        config._attn_implementation = "eager"
        model = cls(config).eval()
        randomise(model, 7100 + index)
        model.config.dtype = "float32"
        folder = f"{out}/models/{name}"
        model.save_pretrained(folder)
        with open(f"{folder}/config.json") as f:
            v5 = json.load(f)
        rope = v5["rope_parameters"]
        v4 = {k: v for k, v in v5.items() if k not in ("rope_parameters", "dtype")}
        v4 |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "torch_dtype": "float32"}
        if "partial_rotary_factor" in rope:
            v4["partial_rotary_factor"] = rope["partial_rotary_factor"]
        with open(f"{folder}/config.v4.json", "w") as f:
            json.dump(v4, f, indent=1)
        model = cls.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).eval()

        gen = torch.Generator().manual_seed(31 + index)
        rows = [torch.randint(3, kwargs["vocab_size"], (n,), generator=gen) for n in lengths]
        ids, mask = right_padded(rows)
        logits = torch.zeros(*ids.shape, kwargs["vocab_size"])
        greedy, margin = [], float("inf")
        with torch.no_grad():
            padded = model(input_ids=ids, attention_mask=mask).logits
            left = torch.zeros_like(ids)
            for i, row in enumerate(rows):
                left[i, ids.shape[1] - len(row):] = row
            left_logits = model(input_ids=left, attention_mask=mask.flip(1),
                                position_ids=(mask.flip(1).cumsum(1) - 1).clamp(min=0)).logits
            double = cls.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64).eval()
            noise = {"padded_vs_unpadded": 0.0, "left_padded_vs_unpadded": 0.0, "vs_float64": 0.0}
            for i, row in enumerate(rows):
                n = len(row)
                logits[i, :n] = model(input_ids=row[None]).logits[0]
                wide = double(input_ids=row[None]).logits[0]
                for key, other in (("padded_vs_unpadded", padded[i, :n]), ("vs_float64", wide),
                                   ("left_padded_vs_unpadded", left_logits[i, -n:])):
                    noise[key] = max(noise[key], (other - logits[i, :n]).abs().max().item())
                step = model.generate(row[None], attention_mask=torch.ones(1, n), max_new_tokens=16, do_sample=False,
                                      eos_token_id=None, return_dict_in_generate=True, output_logits=True)
                greedy.append(step.sequences[0, n:])
                for one in step.logits:
                    top = one[0].topk(2).values
                    margin = min(margin, (top[0] - top[1]).item())
        logp = torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
        save_file({"input_ids": ids.int(), "attention_mask": mask.int(), "logits": logits, "token_logprobs": logp,
                   "greedy_ids": torch.stack(greedy).int()}, f"{folder}/golden.safetensors")
        facts = {"model": name, "made_by": "test/golden-cases/make_cases.py", "versions": versions(),
                 "compute": "float32, eager attention, CPU; logits of each row alone, without padding",
                 "noise": {f"max_abs_logit_diff_{k}": v for k, v in noise.items()}
                 | {"min_greedy_top1_top2_logit_margin": margin, "logits_std": logits.std().item()},
                 "n_params": sum(p.numel() for p in model.parameters())}
        with open(f"{folder}/golden.json", "w") as f:
            json.dump(facts, f, indent=1)
        print(name, facts["n_params"], facts["noise"])


def token_logps(model, batch, tau=1.0, router=False):
    """[B, C] log-probabilities of the completions; prompts left padded, completions right padded."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1).long()
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1).long()
    extra = {"output_router_logits": True} if router else {}
    out = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), **extra)
    c = batch["completion_ids"].shape[1]
    logits = out.logits[:, -c - 1:-1] / tau
    logps = torch.log_softmax(logits, -1)
    taken = logps.gather(-1, batch["completion_ids"].long()[..., None])[..., 0]
    entropies = -(logps.exp() * logps).sum(-1)
    m = batch["completion_mask"]
    return taken * m, entropies * m, out.aux_loss if router else None


def loss_of(config, batch, logps, aux):
    """golden/FORMULAS.md: sequence level, loss_type grpo."""
    m = batch["completion_mask"].to(logps)
    n = m.sum(1).clamp(min=1)
    old = batch[config["old_logps"]].to(logps) if config["old_logps"] in batch else logps.detach()
    s = (((logps - old) * m).sum(1) / n).exp()
    a = batch["advantages"].to(logps)
    p = -torch.min(s * a, s.clamp(1 - EPS_LOW, 1 + EPS_HIGH) * a)[:, None]
    per_token = p.expand_as(logps)
    if config["beta"]:
        d = batch["ref_logps"].to(logps) - logps
        k3 = d.exp() - d - 1
        per_token = per_token + config["beta"] * (k3 * s[:, None] if config["use_bias_correction_kl"] else k3)
    loss = ((per_token * m).sum(1) / n).mean()
    return loss + config["router_aux_loss_coef"] * aux if config["router_aux_loss_coef"] else loss


def lora_params(model):
    return {k.replace(".default.", "."): p for k, p in model.named_parameters() if p.requires_grad}


def gradients(model, config, batch):
    model.zero_grad()
    coef = config["router_aux_loss_coef"]
    logps, _, aux = token_logps(model, batch, config["temperature"], router=coef != 0)
    loss = loss_of(config, batch, logps, aux)
    loss.backward()
    return loss.item(), {k: p.grad.clone() for k, p in lora_params(model).items() if p.grad is not None}, aux


def case_config(**changes):
    return {"importance_sampling_level": "sequence", "loss_type": "grpo", "beta": 0.0, "use_bias_correction_kl": True,
            "epsilon": EPS_LOW, "epsilon_high": EPS_HIGH, "router_aux_loss_coef": 0.0, "temperature": 1.0,
            "old_logps": "old_logps_seq", "scale_rewards": "group", "num_generations": 4,
            "max_completion_length": 80} | changes


CASES = {
    "all": {"gspo_b0": case_config(), "gspo_b0.1_klcorr": case_config(beta=0.1),
            "gspo_b0_aux": case_config(router_aux_loss_coef=0.001)},
    "few": {"gspo_b0": case_config()},
}
# The case whose five steps are kept: one that rounding errors do not drive apart. Changing every weight by 6e-8 of
# itself moves no weight of qwen3-next/linear by more than 0.002 lr in gspo_b0, but 8 % of them by more than 0.01 lr with
# the KL term, whose gradient reaches 10.
STEPS = {"all": "gspo_b0.1_klcorr", "few": "gspo_b0"}


def make_rl(out):
    from peft import LoraConfig, get_peft_model
    for index, (folder, (base, targets, prompts, completions, cases)) in enumerate(RL.items()):
        source = f"{out}/models/{base}"
        target = f"{out}/rl/{folder}"
        os.makedirs(target, exist_ok=True)
        family = "Mixtral" if base == "mixtral" else "Qwen3Next"
        cls, config_cls = model_class(family)
        with open(f"{source}/config.v4.json") as f:
            model_config = config_cls(**json.load(f))
        model_config._attn_implementation = "eager"
        model = cls.from_pretrained(source, config=model_config, torch_dtype=torch.float32)
        golden = load_file(f"{source}/golden.safetensors")
        with torch.no_grad():
            worst = 0.0
            for i in range(3):
                n = int(golden["attention_mask"][i].sum())
                seen = model.eval()(input_ids=golden["input_ids"][i, :n][None].long()).logits[0]
                worst = max(worst, (seen - golden["logits"][i, :n]).abs().max().item())
        gen = torch.Generator().manual_seed(900 + index)
        vocab = model_config.vocab_size
        groups = [torch.randint(3, vocab, (n,), generator=gen) for n in prompts]
        p, c = max(prompts), max(completions)
        batch = {k: torch.zeros(8, n, dtype=torch.int32) for k, n in
                 (("prompt_ids", p), ("prompt_mask", p), ("completion_ids", c), ("completion_mask", c))}
        for row in range(8):
            prompt, n = groups[row // 4], completions[row]
            batch["prompt_ids"][row, p - len(prompt):] = prompt
            batch["prompt_mask"][row, p - len(prompt):] = 1
            batch["completion_ids"][row, :n] = torch.randint(3, vocab, (n,), generator=gen)
            batch["completion_mask"][row, :n] = 1
        rewards = torch.tensor(REWARDS)
        grouped = rewards.view(2, 4)
        batch["rewards"] = rewards
        batch["advantages"] = ((grouped - grouped.mean(1, True)) / (grouped.std(1, keepdim=True) + 1e-4)).view(-1)

        peft = get_peft_model(model, LoraConfig(r=R, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.0))
        for name, param in lora_params(peft).items():
            scale = 0.3 if "lora_B" in name else 1 / param.shape[1] ** 0.5
            param.data = scale * torch.randn(param.shape, generator=gen)
        start = {k: v.detach().clone() for k, v in lora_params(peft).items()}
        peft.save_pretrained(f"{target}/adapter")
        os.remove(f"{target}/adapter/README.md")
        config_file = f"{target}/adapter/adapter_config.json"
        with open(config_file) as f:
            adapter_config = json.load(f)
        with open(config_file, "w") as f:
            json.dump(adapter_config | {"base_model_name_or_path": base}, f, indent=1)
        peft.train()
        with torch.no_grad():
            batch["logps"], batch["entropies"], _ = token_logps(peft, batch)
            batch["logps_temp07"], _, _ = token_logps(peft, batch, 0.7)
            with peft.disable_adapter():
                batch["ref_logps"], _, _ = token_logps(peft, batch)
            m = batch["completion_mask"].float()
            n = m.sum(1, keepdim=True)
            jitter = 0.05 * torch.randn(8, c, generator=gen) * m
            jitter = (jitter - jitter.sum(1, keepdim=True) / n) * m
            shift = torch.tensor(RATIOS).log()[:, None]
            batch["old_logps_seq"] = (batch["logps"] - shift + jitter) * m
            ids, mask = golden["input_ids"].long(), golden["attention_mask"]
            logits = peft(input_ids=ids, attention_mask=mask.long()).logits * mask[..., None]
            batch["adapter_logits"] = logits
            logp = torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
            batch["adapter_token_logprobs"] = logp * mask[:, 1:]
        save_file({k: v.contiguous() for k, v in batch.items()}, f"{target}/batch.safetensors")

        manifest = {"base_model": f"../../../models/{base}", "made_by": "test/golden-cases/make_cases.py",
                    "versions": versions(), "max_abs_logit_diff_to_the_base_models_golden": worst,
                    "lora": {"r": R, "lora_alpha": ALPHA, "target_modules": targets, "scaling": ALPHA / R},
                    "cases": {}}
        grads, finals = {}, {}
        for case, config in CASES[cases].items():
            loss, grad, aux = gradients(peft, config, batch)
            entry = {"config": config, "loss": loss, "aux_loss": None if aux is None else aux.item(),
                     "grad_max_abs": max(g.abs().max().item() for g in grad.values()),
                     "tensors_without_grad": sorted(set(start) - set(grad))}
            grads |= {f"{case}/{k}": g for k, g in grad.items()}
            if case == STEPS[cases]:
                entry["adamw5"] = adamw(peft, config, batch, start, 1e-3, finals, f"{case}/adamw5")
            manifest["cases"][case] = entry
        save_file(grads, f"{target}/grads.safetensors")
        save_file(finals, f"{target}/adamw5.safetensors")
        with open(f"{target}/manifest.json", "w") as f:
            json.dump(manifest, f, indent=1)
        size = sum(os.path.getsize(os.path.join(d, n)) for d, _, ns in os.walk(target) for n in ns)
        print(folder, size, {k: (v["loss"], v["grad_max_abs"], len(v["tensors_without_grad"]))
                             for k, v in manifest["cases"].items()}, "v4 against v5", worst)


def adamw(peft, config, batch, start, lr, finals, prefix):
    """Five steps on one batch with the same old log-probabilities."""
    params = lora_params(peft)
    for k, p in params.items():
        p.data = start[k].clone()
    optimiser = torch.optim.AdamW(params.values(), lr=lr, weight_decay=0)
    losses = []
    for _ in range(5):
        loss, _, _ = gradients(peft, config, batch)
        losses.append(loss)
        optimiser.step()
    finals |= {f"{prefix}/{k}": p.detach().clone() for k, p in params.items()}
    for k, p in params.items():
        p.data = start[k].clone()
    return {"lr": lr, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0, "loss_before_update": losses}


def check(golden):
    """TRL's losses and gradients of a public case, by this script's formulas."""
    from peft import PeftModel
    folder = f"{golden}/rl/qwen3-moe/qv"
    cls, config_cls = model_class("Qwen3Moe")
    with open(f"{golden}/models/qwen3-moe/config.v4.json") as f:
        config = config_cls(**json.load(f))
    config._attn_implementation = "eager"
    model = cls.from_pretrained(f"{golden}/models/qwen3-moe", config=config, torch_dtype=torch.float32)
    peft = PeftModel.from_pretrained(model, f"{folder}/adapter", is_trainable=True).train()
    batch = load_file(f"{folder}/batch.safetensors")
    grads = load_file(f"{folder}/grads.safetensors")
    with open(f"{folder}/manifest.json") as f:
        cases = json.load(f)["cases"]
    for name in ("gspo_b0", "gspo_b0.1", "gspo_b0.1_klcorr", "gspo_b0_aux"):
        loss, grad, _ = gradients(peft, cases[name]["config"], batch)
        worst = max((g - grads[f"{name}/{k}"]).abs().max().item() for k, g in grad.items())
        print(f"{name}: loss {loss:.9f}, TRL's {cases[name]['loss']:.9f}; gradients differ by {worst:.1e} at most")


if __name__ == "__main__":
    {"models": make_models, "rl": make_rl, "check": check}[sys.argv[1]](sys.argv[2])
