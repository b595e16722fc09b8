"""GSPO steps by TRL's GRPOTrainer (importance_sampling_level="sequence") with a PEFT LoRA on the CPU, timed by part.

step-vs-trl.ts runs it beside this project's trainer, with a Python that has torch, transformers, peft and trl. Prints one
line of JSON: seconds of a step split into generate, reward and advantage, forward, backward, optimiser and rest.
"""
import argparse, json, os, resource, sys, tempfile, time
os.environ.setdefault("HF_HUB_OFFLINE", "1"); os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True); ap.add_argument("--steps", type=int, default=5); ap.add_argument("--warmup", type=int, default=1, help="steps left out of the averages")
ap.add_argument("--group", type=int, default=8); ap.add_argument("--completion", type=int, default=64); ap.add_argument("--prompts-per-step", type=int, default=1)
ap.add_argument("--prompt-len", type=int, default=64); ap.add_argument("--lora-r", type=int, default=16); ap.add_argument("--lora-alpha", type=int, default=32)
ap.add_argument("--lr", type=float, default=1e-4); ap.add_argument("--beta", type=float, default=0.0); ap.add_argument("--eps-low", type=float, default=3e-4); ap.add_argument("--eps-high", type=float, default=4e-4)
ap.add_argument("--num-iterations", type=int, default=1); ap.add_argument("--temperature", type=float, default=1.0); ap.add_argument("--no-force-length", action="store_true", help="let EOS stop completions")
ap.add_argument("--reward", choices=["digits", "exact"], default="digits"); ap.add_argument("--data"); ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--threads", type=int, default=2); ap.add_argument("--dtype", default="float32"); ap.add_argument("--json"); ap.add_argument("--verbose", action="store_true")
a = ap.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)
import torch
torch.set_num_threads(a.threads)
import transformers, datasets, logging
transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar(); datasets.disable_progress_bars()
from transformers import AutoModelForCausalLM, AutoTokenizer
from peft import LoraConfig
from trl import GRPOTrainer, GRPOConfig
from datasets import Dataset
import trl, peft

tok = AutoTokenizer.from_pretrained(a.model, padding_side="left")
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype))
if a.data:
    rows = [json.loads(l) for l in open(a.data)]
    ds = Dataset.from_list([{"prompt": r["prompt"], "answer": r["answer"]} for r in rows])
else:
    g = torch.Generator().manual_seed(a.seed)
    V = model.config.vocab_size
    n = max(64, a.steps * a.prompts_per_step)
    P = [tok.decode(torch.randint(3, V, (a.prompt_len,), generator=g).tolist()) for _ in range(n)]
    ds = Dataset.from_dict({"prompt": P, "answer": [""] * n})

def digits(completions, **k):   # fraction of whitespace separated completion tokens that are digit strings
    return [(lambda w: sum(x.isdigit() for x in w) / max(1, len(w)))(c.split()) for c in completions]
def exact(completions, answer, **k):
    return [1.0 if c.strip() == ans.strip() else 0.0 for c, ans in zip(completions, answer)]

args = GRPOConfig(
    output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
    per_device_train_batch_size=a.group * a.prompts_per_step, num_generations=a.group, gradient_accumulation_steps=1, num_iterations=a.num_iterations,
    max_completion_length=a.completion, max_steps=a.steps, learning_rate=a.lr, lr_scheduler_type="constant", optim="adamw_torch", weight_decay=0.0, max_grad_norm=1.0,
    importance_sampling_level="sequence", loss_type="grpo", epsilon=a.eps_low, epsilon_high=a.eps_high, beta=a.beta, temperature=a.temperature, router_aux_loss_coef=0.0,
    generation_kwargs=None if a.no_force_length else {"min_new_tokens": a.completion}, seed=a.seed, dataloader_pin_memory=False)
tr = GRPOTrainer(model=model, reward_funcs=exact if a.reward == "exact" else digits, args=args, train_dataset=ds, processing_class=tok,
                 peft_config=LoraConfig(r=a.lora_r, lora_alpha=a.lora_alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))

rec, cur = [], {}
def timed(obj, name, label):
    f = getattr(obj, name)
    def w(*x, **k):
        t = time.perf_counter(); r = f(*x, **k); cur[label] = cur.get(label, 0.0) + time.perf_counter() - t; return r
    setattr(obj, name, w)
timed(tr, "_generate_single_turn", "generate"); timed(tr, "_prepare_inputs", "prepare"); timed(tr, "_compute_loss", "forward"); timed(tr.accelerator, "backward", "backward")
ts = tr.training_step
def step(*x, **k):
    t = time.perf_counter(); r = ts(*x, **k); cur["training_step"] = time.perf_counter() - t; return r
tr.training_step = step
class CB(transformers.TrainerCallback):
    def on_step_begin(self, *x, **k): cur.clear(); self.t = time.perf_counter()
    def on_step_end(self, *x, **k): rec.append(dict(cur, total=time.perf_counter() - self.t))
tr.add_callback(CB())
t0 = time.perf_counter()
import contextlib, io
with (contextlib.nullcontext() if a.verbose else contextlib.redirect_stdout(io.StringIO())):
    tr.train()
wall = time.perf_counter() - t0
logs = [h for h in tr.state.log_history if "loss" in h]
use = rec[a.warmup:] or rec
mean = lambda f: round(sum(f(r) for r in use) / len(use), 4)
ntok = [h.get("completions/mean_length", 0) * a.group * a.prompts_per_step for h in logs]
gen_s = mean(lambda r: r.get("generate", 0))
o = dict(system="trl", versions=dict(torch=torch.__version__, transformers=transformers.__version__, trl=trl.__version__, peft=peft.__version__),
         model=os.path.basename(a.model.rstrip("/")), params_m=round(sum(p.numel() for n, p in model.named_parameters() if "lora_" not in n) / 1e6, 2), threads=a.threads, dtype=a.dtype,
         steps=len(rec), group=a.group, prompts_per_step=a.prompts_per_step, completion=a.completion, lora_r=a.lora_r, trainable=sum(p.numel() for p in tr.model.parameters() if p.requires_grad),
         seconds_per_step=mean(lambda r: r["total"]), generate_s=gen_s, reward_and_prepare_s=mean(lambda r: r.get("prepare", 0) - r.get("generate", 0)),
         forward_s=mean(lambda r: r.get("forward", 0)), backward_s=mean(lambda r: r.get("backward", 0)),
         optimizer_and_rest_s=mean(lambda r: r["total"] - r.get("prepare", 0) - r.get("forward", 0) - r.get("backward", 0)),
         generated_tokens_per_step=round(sum(ntok[a.warmup:] or ntok) / max(1, len(ntok[a.warmup:] or ntok)), 1),
         generated_tokens_per_s=round(sum(ntok[a.warmup:] or ntok) / max(1, len(ntok[a.warmup:] or ntok)) / max(gen_s, 1e-9), 1),
         per_step_total=[round(r["total"], 3) for r in rec], reward=[round(h["reward"], 4) for h in logs], loss=[h["loss"] for h in logs],
         wall_s=round(wall, 2), peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
print(json.dumps(o))
if a.json:
    json.dump(o, open(a.json, "w"), indent=1)
