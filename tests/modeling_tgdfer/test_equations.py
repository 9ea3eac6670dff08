"""The equations of docs/reference/model.md, written down again frame by frame and in numpy, against the network."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tgdfer import TGDFERForVideoClassification

from .conftest import PARTS, move_all_but_clip

FRAMES, HELD = 7, (True, True, False, True, True, True, False)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def norm(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def log_softmax(x, axis=-1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def linear(layer, x):
    return x @ array(layer.weight).T + (0 if layer.bias is None else array(layer.bias))


def layer_norm(layer, x):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return scaled * array(layer.weight) + array(layer.bias)


def attention(layer, h, tau, allowed):
    """(T, C), (T,), (T, T) -> (T, C), head by head."""
    c = layer.head_dim
    theta = 2 * math.pi * np.geomspace(1 / 32, 4, c // 2)
    q, k, v = (linear(part, h) for part in (layer.q_proj, layer.k_proj, layer.v_proj))

    def turned(x):
        pairs = x[:, : c // 2] + 1j * x[:, c // 2 :]
        pairs = pairs * np.exp(1j * tau[:, None] * theta)
        return np.concatenate([pairs.real, pairs.imag], -1)

    heads = []
    for start in range(0, h.shape[1], c):
        part = slice(start, start + c)
        scores = turned(q[:, part]) @ turned(k[:, part]).T / math.sqrt(c)
        heads.append(softmax(np.where(allowed, scores, -np.inf)) @ v[:, part])
    return linear(layer.out_proj, np.concatenate(heads, -1))


def short_term(grain, f, tau):
    """Of the unmasked frames alone: (T, D) -> (T, D)."""
    h = linear(grain.down, layer_norm(grain.input_norm, f))
    before, after = np.vstack([h[:1], h[:-1]]), np.vstack([h[1:], h[-1:]])
    h = h + gelu(linear(grain.change, np.hstack([h, h - before, after - h])))
    place = np.arange(len(f))
    near = abs(place[:, None] - place) <= grain.window
    a = attention(grain.attention, layer_norm(grain.attention_norm, h), tau, near)
    return f + linear(grain.up, gelu(layer_norm(grain.output_norm, h + a)))


def long_range(grain, f, tau):
    h = linear(grain.down, layer_norm(grain.input_norm, f))
    for layer in grain.layers:
        h = h + attention(layer.attention, layer_norm(layer.attention_norm, h), tau, np.full((len(f), len(f)), True))
        h = h + linear(layer.mlp[2], gelu(linear(layer.mlp[0], layer_norm(layer.mlp_norm, h))))
    return f + linear(grain.up, gelu(layer_norm(grain.output_norm, h)))


def temporal_adapter(part, f, tau):
    """Of the unmasked frames alone: (T, D) -> (T, D)."""
    h = linear(part.attention_down, layer_norm(part.attention_norm, f))
    a = attention(part.attention, h, tau, np.full((len(f), len(f)), True))
    f = f + linear(part.attention_up, a)
    return f + linear(part.mlp_up, gelu(linear(part.mlp_down, layer_norm(part.mlp_norm, f))))


def motion(f):
    """(T, D) -> (T,)."""
    steps = ((f[1:] - f[:-1]) ** 2).sum(-1)
    d = np.array([steps[0], *(steps[1:] + steps[:-1]) / 2, steps[-1]])
    return softmax(d / (d.mean() + 1e-6))


def without_residue(part, f):
    """(T, D) -> (T, D), by the projection onto the columns of the directions."""
    directions = array(part.directions)
    return norm(f - f @ directions @ np.linalg.inv(directions.T @ directions) @ directions.T)


def relevance(part, s, f, m=None):
    hidden = layer_norm(part.norm, f)
    u = linear(part.score, np.tanh(linear(part.value, hidden)) / (1 + np.exp(-linear(part.gate, hidden))))
    return softmax(array(part.sharpness) * s + u + (0 if m is None else np.log(m)[:, None]), axis=0)


def prompted(part, t, x, A):
    """(K, D), (T, D), (T, K) -> (K, D)."""
    D = x.shape[1]
    gamma = part.limit * np.tanh(array(part.strength) / part.limit)
    v = A.T @ x - x.mean(0)
    words = np.tanh(linear(part.up, gelu(linear(part.down, math.sqrt(D) * v)))) / math.sqrt(D)
    return norm(t + gamma[:, None] * words)


def attended(part, t, x, A):
    """(K, D), (T, D), (T, K) -> (K, D)."""
    D, x = x.shape[1], norm(x)
    match = linear(part.k_proj, math.sqrt(D) * x) @ linear(part.q_proj, math.sqrt(D) * t).T
    C = softmax(np.log(A) + match / math.sqrt(part.rank), axis=0)
    v = C.T @ x - x.mean(0)
    p = linear(part.up, gelu(linear(part.down, math.sqrt(D) * v))) / math.sqrt(D)
    length = np.linalg.norm(p, axis=-1, keepdims=True)
    return norm(t + part.limit * np.tanh(length / part.limit) * p / length)


def pooled(kind, e, A):
    if kind == "attention":
        return A
    count = {"mean": len(e), "max": 1, "topk": math.ceil(0.25 * len(e))}[kind]
    return (np.argsort(np.argsort(-e, axis=0), axis=0) < count) / count


@pytest.mark.parametrize("part", ["whole", *(name for name in PARTS if "context" not in name)])
def test_the_network_is_what_its_equations_say(part: str, clip_folder: Path, prompts: dict) -> None:
    options = PARTS.get(part, {})
    model = move_all_but_clip(TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options))
    torch.manual_seed(0)
    features, mask = torch.randn(1, FRAMES, model.config.clip_config.projection_dim), torch.tensor([HELD])
    seconds = torch.tensor([[0.0, 0.1, 0.15, 0.4, 0.7, 1.1, 2.0]])
    with torch.no_grad():
        found = model(frame_features=features, frame_mask=mask, timestamps=seconds)
        g = array(model.tgdfer.get_text_features().last_hidden_state)
    base, config, kept = model.tgdfer, model.config, np.array(HELD)

    # Masked frames are as if they were not there.
    f, tau = norm(array(features)[0, kept]), array(seconds)[0, kept]
    guidance = base.text_guidance
    w = softmax(np.where(guidance.description_mask.numpy(), array(guidance.description_weight), -np.inf))
    t = norm((w[..., None] * g).sum(1))
    f = without_residue(base.residue, f) if base.residue else f
    m = motion(f) if config.motion_weights else None
    f = temporal_adapter(base.temporal_adapter, f, tau) if base.temporal_adapter else f
    near = short_term(base.short_term, f, tau) if base.short_term else f
    x = long_range(base.long_range, near, tau) if base.long_range else near
    scale, b = math.exp(model.log_scale.item()), array(model.bias)
    s = scale * norm(near) @ t.T + b
    A = relevance(model.relevance, s, near, m)
    texts = t
    if model.visual_prompts:
        rewrite = {"contrast": prompted, "cross_attention": attended}[config.visual_prompt_source]
        texts = rewrite(model.visual_prompts, t, x, A)
        if config.relevance_text == "prompted":
            s = scale * norm(near) @ texts.T + b
            A = relevance(model.relevance, s, near, m)
    e = scale * norm(x) @ texts.T + b
    P = pooled(config.mil_pooling, e, A)
    logits = (P * e).sum(0)
    z = norm((x * (P @ softmax(logits))[:, None]).sum(0))

    expected = {
        "logits": logits,
        "frame_logits": e,
        "frame_relevance": P,
        "description_relevance": np.einsum("td,kmd->tkm", norm(near), g) * guidance.description_mask.numpy(),
        "video_embeds": z,
    }
    for name, value in expected.items():
        got = array(getattr(found, name)[0])
        got = got[kept] if len(got) == FRAMES and name not in ("logits", "video_embeds") else got
        np.testing.assert_allclose(got, value, atol=2e-4, err_msg=name)


WEIGHTS = {"alignment_weight": 0.3, "separation_weight": 0.5, "smoothness_weight": 0.7, "instance_weight": 1.1}


@pytest.mark.parametrize("labels", [[0, 3], [1, 1]], ids=["two_classes", "one_class"])
@torch.no_grad()
def test_the_loss_is_what_its_equations_say(labels: list[int], clip_folder: Path, prompts: dict) -> None:
    """Of two clips, with every term, class weights and an adjustment; from the outputs, whose equations are above."""
    model = move_all_but_clip(TGDFERForVideoClassification.from_clip(clip_folder, prompts, **WEIGHTS))
    torch.manual_seed(0)
    features, mask = torch.randn(2, FRAMES, model.config.clip_config.projection_dim), torch.tensor([HELD, (True,) * 7])
    weights, adjustment = torch.tensor([0.5, 1.0, 2.0, 3.0, 1.5]), torch.linspace(-1, 1, 5)
    found = model(
        frame_features=features,
        frame_mask=mask,
        labels=torch.tensor(labels),
        class_weights=weights,
        logit_adjustment=adjustment,
    )
    near = array(model.tgdfer(frame_features=features, frame_mask=mask).frame_embeds)
    y, kept, scale, t = (
        np.array(labels),
        mask.numpy(),
        model.log_scale.exp().item(),
        array(model.get_text_features().pooler_output),
    )

    # Bag: the right class has 1 - 0.1 of the target, and all classes share the rest. Clips are weighted by label.
    log_p = log_softmax(array(found.logits + adjustment))
    w, smooth, K = array(weights), 0.1, 5
    exact = sum(w[y[b]] * -log_p[b, y[b]] for b in range(2))
    spread = sum(w[y[b]] * -log_p[b, k] for b in range(2) for k in range(K)) / K
    bag = ((1 - smooth) * exact + smooth * spread) / sum(w[y])

    # Alignment: over the clips, for the text of each clip's label.
    over_clips = log_softmax(scale * array(found.video_embeds) @ t[y].T, axis=0)
    alignment = -np.mean([np.mean([over_clips[i, j] for i in range(2) if y[i] == y[j]]) for j in range(2)])
    separation = np.mean([(t[k] @ t[other]) ** 2 for k in range(K) for other in range(K) if k != other])

    jumps, terms = [], []
    for b in range(2):
        A = array(found.frame_relevance)[b, kept[b], y[b]]
        texts = array(found.text_embeds)[b]  # those that the relevance is computed from
        s = scale * norm(near[b, kept[b]]) @ texts.T + array(model.bias)  # without the long-range grain
        jumps.append(abs(np.diff(A)).sum())
        top = np.argsort(-A)[: math.ceil(len(A) / 4)]
        terms += [-log_softmax(s[frame])[y[b]] for frame in top]
    assert len(terms) == 4, "the quarter of 5 and of 7 frames: all four count alike, whichever clip they are of"
    smoothness, instance = np.mean(jumps), np.mean(terms)
    named = {"alignment": alignment, "separation": separation, "smoothness": smoothness, "instance": instance}
    assert min(named.values()) > 0.01, "each term has its say"
    expected = bag + sum(WEIGHTS[f"{name}_weight"] * value for name, value in named.items())
    assert found.loss.item() == pytest.approx(expected, abs=2e-4)


def test_training_returns_the_terms_of_the_loss(clip_folder: Path, prompts: dict) -> None:
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **WEIGHTS)
    inputs = {"frame_features": torch.randn(2, FRAMES, model.config.clip_config.projection_dim)}
    inputs["labels"] = torch.tensor([0, 3])
    found = model.train()(**inputs)
    assert set(found.loss_dict) == {"bag", "alignment", "separation", "smoothness", "instance"}
    assert sum(found.loss_dict.values()).item() == pytest.approx(found.loss.item(), rel=1e-5)
    assert found.loss.requires_grad and not any(term.requires_grad for term in found.loss_dict.values())
    assert model.eval()(**inputs).loss_dict is None
