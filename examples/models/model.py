"""The network of the bundled model: a small Llama, written for JAX on a CPU.

Parameters live in a flat dict whose names are the GGUF tensor names, each
matrix stored [out, in] as GGUF stores it, so export.py only has to quantise.
RoPE turns neighbouring pairs (2i, 2i+1), the layout that GGUF expects of the
"llama" architecture: no permutation is needed anywhere.
"""

import jax
import jax.numpy as jnp
import numpy as np

CONFIG = {
    "vocab": 2048,
    "dim": 256,
    "layers": 5,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "ffn": 768,
    "context": 512,
    "rope_base": 10000.0,
    "eps": 1e-5,
}

EMBED_STD = 0.08


def shapes(cfg):
    """Name and shape of every tensor, in file order."""
    d, q, kv = cfg["dim"], cfg["heads"] * cfg["head_dim"], cfg["kv_heads"] * cfg["head_dim"]
    out = {"token_embd.weight": (cfg["vocab"], d)}
    for i in range(cfg["layers"]):
        b = f"blk.{i}."
        out[b + "attn_norm.weight"] = (d,)
        out[b + "attn_q.weight"] = (q, d)
        out[b + "attn_k.weight"] = (kv, d)
        out[b + "attn_v.weight"] = (kv, d)
        out[b + "attn_output.weight"] = (d, q)
        out[b + "ffn_norm.weight"] = (d,)
        out[b + "ffn_gate.weight"] = (cfg["ffn"], d)
        out[b + "ffn_up.weight"] = (cfg["ffn"], d)
        out[b + "ffn_down.weight"] = (d, cfg["ffn"])
    out["output_norm.weight"] = (d,)
    return out


def init(cfg, seed):
    """Start weights: norms at one, matrices that write to the residual at zero."""
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in shapes(cfg).items():
        if len(shape) == 1:
            w = np.ones(shape)
        elif name.endswith(("attn_output.weight", "ffn_down.weight")):
            w = np.zeros(shape)
        elif name.startswith("token_embd"):
            w = rng.normal(0, EMBED_STD, shape)
        else:
            w = rng.normal(0, shape[1] ** -0.5, shape)
        params[name] = w
    plant(params, cfg, rng)
    return {k: jnp.asarray(w, jnp.float32) for k, w in params.items()}


def plant(p, cfg, rng):
    """Starts the model with the ability to copy, which it would else find late.

    Head 0 of block 0 looks at the previous token and notes it in channels that
    embeddings leave free. Head 0 of block 1 then finds an earlier place whose
    note is the present token, and proposes the token that stood there: what
    came next last time. Everything stays trainable.
    """
    hd, half = cfg["head_dim"], cfg["head_dim"] // 2
    note, rest = slice(1, 1 + half), slice(1 + half, cfg["dim"])
    embed = p["token_embd.weight"]
    embed[:, 0], embed[:, note] = 4 * EMBED_STD, 0.0  # channel 0: the same for all tokens
    width = cfg["dim"] - 1 - half
    match = rng.normal(0, width ** -0.5, (half, width))

    # Fast pairs of RoPE, fed by the constant channel: the score peaks one step back.
    fast = np.arange(8)
    angle = cfg["rope_base"] ** (-fast / half)
    q, k = p["blk.0.attn_q.weight"], p["blk.0.attn_k.weight"]
    q[:hd], k[:hd] = 0.0, 0.0
    q[2 * fast, 0], q[2 * fast + 1, 0] = 1.6 * np.cos(angle), -1.6 * np.sin(angle)
    k[2 * fast, 0] = 1.6
    p["blk.0.attn_v.weight"][:half] = 0.0
    p["blk.0.attn_v.weight"][:half, rest] = match
    p["blk.0.attn_output.weight"][note, :half] = EMBED_STD * np.eye(half)

    # Slow pairs, nearly deaf to distance, compare the token with the notes.
    q, k = p["blk.1.attn_q.weight"], p["blk.1.attn_k.weight"]
    q[:hd], k[:hd] = 0.0, 0.0
    q[half:hd, rest] = 1.8 * match
    k[half:hd, note] = 1.8 * np.eye(half)
    copy = np.linalg.qr(rng.normal(0, 1, (width, hd)))[0].T
    p["blk.1.attn_v.weight"][:hd] = 0.0
    p["blk.1.attn_v.weight"][:hd, rest] = copy
    p["blk.1.attn_output.weight"][rest, :hd] = 4 * EMBED_STD * copy.T


def dot(a, b, ca, cb):
    """Contracts axis ca of a with axis cb of b: bfloat16 factors, float32 sums."""
    return jax.lax.dot_general(a, b, (((ca,), (cb,)), ((), ())),
                               preferred_element_type=jnp.float32)


@jax.custom_vjp
def linear(x, w):
    """x @ w.T, three times as fast as float32 where the CPU has AVX-512 BF16."""
    return linear_fwd(x, w)[0]


def linear_fwd(x, w):
    x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    lead = x.shape[:-1]
    x = x.reshape(-1, x.shape[-1])
    return dot(x, w, 1, 1).reshape(*lead, -1), (x, w)


def linear_bwd(saved, g):
    x, w = saved
    lead, g = g.shape[:-1], g.reshape(-1, g.shape[-1]).astype(jnp.bfloat16)
    # The barrier keeps the transpose out of the product: XLA's fast kernel
    # wants the rows of the left factor to be contiguous.
    flipped = jax.lax.optimization_barrier(g.T)
    return dot(g, w, 1, 0).reshape(*lead, -1), dot(flipped, x, 1, 0)


linear.defvjp(linear_fwd, linear_bwd)


def rms(x, w, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * w


def rope_tables(cfg, length):
    half = cfg["head_dim"] // 2
    freq = cfg["rope_base"] ** (-np.arange(half) / half)
    angle = np.outer(np.arange(length), freq)[:, None, :]
    return jnp.asarray(np.cos(angle), jnp.float32), jnp.asarray(np.sin(angle), jnp.float32)


def rope(x, tables):
    """x is [batch, time, head, head_dim]; pairs are neighbours."""
    cos, sin = tables
    a, b = x[..., 0::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def attention(p, b, h, mask, tables, cfg):
    n, t, _ = h.shape
    hd, kv = cfg["head_dim"], cfg["kv_heads"]
    group = cfg["heads"] // kv
    q = rope(linear(h, p[b + "attn_q.weight"]).reshape(n, t, -1, hd), tables)
    k = rope(linear(h, p[b + "attn_k.weight"]).reshape(n, t, kv, hd), tables)
    v = linear(h, p[b + "attn_v.weight"]).reshape(n, t, kv, hd)
    # Heads that share a key/value head become rows of one larger product.
    q = q.reshape(n, t, kv, group, hd).transpose(0, 2, 3, 1, 4).reshape(n, kv, group * t, hd)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    s = jnp.matmul(q, k.transpose(0, 1, 3, 2)) * hd ** -0.5
    s = s.reshape(n, kv, group, t, t) + mask[:, None, None]
    s = jax.nn.softmax(s, -1).reshape(n, kv, group * t, t)
    o = jnp.matmul(s, v).reshape(n, kv, group, t, hd)
    o = o.transpose(0, 3, 1, 2, 4).reshape(n, t, -1)
    return linear(o, p[b + "attn_output.weight"])


def hidden(p, tokens, segments, cfg):
    """What the head reads, [batch, time, dim]; a token sees only its own segment."""
    t = tokens.shape[1]
    tables = rope_tables(cfg, t)
    see = (segments[:, :, None] == segments[:, None, :]) & jnp.tri(t, dtype=bool)[None]
    mask = jnp.where(see, 0.0, -1e9)
    x = p["token_embd.weight"][tokens]
    for i in range(cfg["layers"]):
        b = f"blk.{i}."
        h = rms(x, p[b + "attn_norm.weight"], cfg["eps"])
        x = x + attention(p, b, h, mask, tables, cfg)
        h = rms(x, p[b + "ffn_norm.weight"], cfg["eps"])
        gate = jax.nn.silu(linear(h, p[b + "ffn_gate.weight"]))
        x = x + linear(gate * linear(h, p[b + "ffn_up.weight"]), p[b + "ffn_down.weight"])
    return rms(x, p["output_norm.weight"], cfg["eps"])


def forward(p, tokens, segments, cfg):
    """Logits [batch, time, vocab]."""
    return linear(hidden(p, tokens, segments, cfg), p["token_embd.weight"])


def loss_fn(p, tokens, segments, where, weights, cfg):
    """Weighted mean of the next-token loss at the flat positions `where`.

    Most positions are the user's words and carry no loss: the head, a fifth
    of all work, runs only where an answer is learnt.
    """
    x = hidden(p, tokens[:, :-1], segments[:, :-1], cfg)
    x = x.reshape(-1, cfg["dim"])[where]
    logp = jax.nn.log_softmax(linear(x, p["token_embd.weight"]), -1)
    target = tokens[:, 1:].reshape(-1)[where]
    nll = -jnp.take_along_axis(logp, target[:, None], -1)[:, 0]
    return jnp.sum(nll * weights) / jnp.maximum(jnp.sum(weights), 1.0)
