#!/usr/bin/env python3
"""PyTorch's and Opacus' values for the training engine: writes testdata/nn_*.

Usage: python testdata/generators/nn_vectors.py [simple_cnn|resnet18|densenet121|optimizers|files ...]
Needs: torch, torchvision, opacus, numpy. Takes about five minutes on two cores.

Parameters and images follow a formula, so no array is stored. For a text T and an index i (from 0):
    key(T)   = FNV-1a, 64 bits, of T's UTF-8 bytes
    z        = key(T) + (i + 1) * 0x9E3779B97F4A7C15              (all arithmetic modulo 2^64)
    z        = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;  z = (z ^ z >> 27) * 0x94D049BB133111EB;  z = z ^ z >> 31
    u(T, i)  = (z >> 40) * 2^-23 - 1                              (float32, exact, in [-1, 1))
Element i of a parameter, in row-major order, with T its name, in float32:
    two or more dimensions    float32(sqrt(6 / fan_in)) * u       fan_in = product of all dimensions but the first
    one, named *.weight       1 + 0.25 * u                        (GroupNorm)
    one, named *.bias         float32(0.1) * u
Element i of the image numbered n ([channels, height, width], row-major): float32(sqrt(3)) * u("image/n", i),
and its class is (3 n + 1) mod classes. A case's `images` are the numbers of its images, `units` index them.

An activation within rounding of zero may fall on either side of a ReLU in float32, which moves the gradient of
a single parameter by up to 1 % and the whole gradient's norm by less than 1e-4. Images are chosen so that this
happens in none of several slightly perturbed float32 runs here, yet another implementation may meet one:
compare a single parameter's values on the scale of the whole gradient.

Values are computed in float64 from these float32 numbers. A unit's gradient is the sum over its images of
the gradient of the cross-entropy; it is clipped to `clip` by the factor min(1, clip / norm). Each of
`sum` and `clipped` holds, per parameter g of n elements:
    [norm, sum_i g_i * u("projection/" + name, i), g[n*1//8], g[n*3//8], g[n*5//8], g[n*7//8]]
`files` writes small checkpoints of the two containers of torch.save, one nested, one with a tensor that claims
4 GB, to be refused.
`image_norms` come from Opacus' per-sample hooks and agree with one backward pass per image to 1e-9.
`float32_error` is the largest relative deviation of PyTorch's own float32 unit norms from these values.
"""
import json, math, pathlib, sys, warnings
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
from opacus import GradSampleModule
from torchvision.models import densenet, resnet

warnings.filterwarnings("ignore")
torch.set_num_threads(2)
OUT = pathlib.Path(__file__).resolve().parent.parent


def hashed(text, count):
    key = 0xCBF29CE484222325
    for byte in text.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z = z ^ z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23)) - np.float32(1)


def parameter(name, shape):
    u = hashed(name, math.prod(shape))
    if len(shape) >= 2:
        u = np.float32(math.sqrt(6 / math.prod(shape[1:]))) * u
    elif name.endswith("weight"):
        u = np.float32(1) + np.float32(0.25) * u
    else:
        u = np.float32(0.1) * u
    assert u.dtype == np.float32
    return torch.from_numpy(u.reshape(shape))


# torchvision's residual add and final ReLU work in place, which per-sample hooks reject.
def block_forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def densenet_forward(self, x):
    return self.classifier(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.features(x)), 1), 1))


resnet.BasicBlock.forward = block_forward
densenet.DenseNet.forward = densenet_forward


def groups(limit, channels):
    count = min(limit, channels)
    while channels % count:
        count -= 1
    return count


def group_norm(module):
    for child_name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, child_name, nn.GroupNorm(groups(32, child.num_features), child.num_features))
        elif isinstance(child, nn.ReLU):
            setattr(module, child_name, nn.ReLU(inplace=False))
        else:
            group_norm(child)
    return module


class SimpleCnn(nn.Module):
    def __init__(self, pixels, channels, classes, widths):
        super().__init__()
        layers, size = [], pixels
        for out in widths:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(groups(8, out), out), nn.ReLU()]
            if size > 1:
                layers, size = layers + [nn.MaxPool2d(2)], size // 2
            channels = out
        self.features, self.head = nn.Sequential(*layers), nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def build(architecture, pixels, channels, classes, widths):
    if architecture == "simple_cnn":
        return SimpleCnn(pixels, channels, classes, widths)
    model = {"resnet18": resnet.resnet18, "densenet121": densenet.densenet121}[architecture](num_classes=classes)
    small = dict(kernel_size=3, padding=1) if pixels < 64 else dict(kernel_size=7, stride=2, padding=3)
    stem = nn.Conv2d(channels, 64, bias=False, **small)
    if architecture == "resnet18":
        model.conv1 = stem
        if pixels < 64:
            model.maxpool = nn.Identity()
    else:
        model.features.conv0 = stem
        if pixels < 64:
            model.features.pool0 = nn.Identity()
    return group_norm(model)


def number(x):
    return float(f"{float(x):.8g}")


def per_image_gradients(model, images, labels):
    """Opacus' hooks, checked against one backward pass per image."""
    hooked = GradSampleModule(model.train(), loss_reduction="sum")  # it records activations in training only
    F.cross_entropy(hooked(images), labels, reduction="sum").backward()
    found = {name: p.grad_sample.detach().flatten(1) for name, p in model.named_parameters()}
    hooked.remove_hooks()
    for p in model.parameters():
        del p.grad_sample
    for i in range(len(labels)):
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(images[i : i + 1]), labels[i : i + 1]).backward()
        for name, p in model.named_parameters():
            difference = (p.grad.flatten() - found[name][i]).norm()
            assert difference <= 1e-9 * p.grad.norm() + 1e-12, (name, i, difference)
    model.zero_grad(set_to_none=True)
    return found


def norms(gradients, names=None):
    return torch.sqrt(sum(g.pow(2).sum(1) for name, g in gradients.items() if names is None or name in names))


def summary(name, gradient):
    n, g = gradient.numel(), gradient.double()
    projection = torch.from_numpy(hashed("projection/" + name, n)).double() @ g
    return [number(x) for x in [g.norm(), projection] + [g[n * k // 8] for k in (1, 3, 5, 7)]]


def stable_images(model, shape, classes, count, trials=6):
    """The image numbers whose float32 gradients are the least moved by rounding, in ascending order."""
    generator = torch.Generator().manual_seed(1)
    original = [p.detach().clone() for p in model.parameters()]

    def gradients(n):
        model.zero_grad(set_to_none=True)
        dtype = next(model.parameters()).dtype
        F.cross_entropy(model(image(n, shape)[None].to(dtype)), torch.tensor([(3 * n + 1) % classes])).backward()
        return [p.grad.double() for p in model.parameters()]

    candidates = range(3 * count)
    model.double()
    exact = [gradients(n) for n in candidates]
    model.float()
    worst = [0.0] * len(candidates)
    for _ in range(trials):
        with torch.no_grad():
            for p, value in zip(model.parameters(), original):
                p.copy_(value * (1 + 6e-8 * torch.randn(value.shape, generator=generator)))
        for n in candidates:
            # A bias ahead of a group of one channel has no gradient: the whole gradient is its scale.
            floor = 1e-4 * torch.sqrt(sum(b.pow(2).sum() for b in exact[n]))
            errors = [((a - b).norm() / torch.maximum(b.norm(), floor)).item() for a, b in zip(gradients(n), exact[n])]
            worst[n] = max(worst[n], max(errors))
    with torch.no_grad():
        for p, value in zip(model.parameters(), original):
            p.copy_(value)
    model.zero_grad(set_to_none=True)
    chosen = sorted(sorted(candidates, key=lambda n: worst[n])[:count])
    print("images", chosen, "worst", [f"{worst[n]:.1e}" for n in chosen], "of", [f"{w:.1e}" for w in worst], flush=True)
    return chosen


def image(n, shape):
    return torch.from_numpy(np.float32(math.sqrt(3)) * hashed(f"image/{n}", math.prod(shape)).reshape(shape))


def case(architecture, pixels, channels, classes, units, widths=None):
    model = build(architecture, pixels, channels, classes, widths)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(parameter(name, tuple(p.shape)))
    count = sum(map(len, units))
    shape = (channels, pixels, pixels)
    chosen = stable_images(model, shape, classes, count)
    images = torch.stack([image(n, shape) for n in chosen])
    labels = torch.tensor([(3 * n + 1) % classes for n in chosen])

    def unit_gradients(model, images):
        found = per_image_gradients(model, images, labels)
        return found, {name: torch.stack([g[unit].sum(0) for unit in units]) for name, g in found.items()}

    model.eval()
    single = {}
    for i in range(count):
        F.cross_entropy(model(images[i : i + 1]), labels[i : i + 1]).backward()
        for name, p in model.named_parameters():
            single.setdefault(name, []).append(p.grad.flatten().clone())
        model.zero_grad(set_to_none=True)
    single = {name: torch.stack([sum(gs[i] for i in unit) for unit in units]) for name, gs in single.items()}
    single_norms = norms(single).double()

    model.double()
    images = images.double()
    logits = model(images)
    images_found, found = unit_gradients(model, images)
    head = [name for name, _ in model.named_parameters() if name.split(".")[0] in ("head", "fc", "classifier")]
    unit_norms = norms(found)
    ordered = unit_norms.sort().values
    middle = len(units) // 2
    clip = number((ordered[middle - 1] + ordered[middle]) / 2)
    factors = torch.clamp(clip / unit_norms, max=1.0)
    views = {name: {"shape": list(p.shape), "first": number(p.flatten()[0]),
                    "sum": summary(name, found[name].sum(0)),
                    "clipped": summary(name, factors @ found[name])} for name, p in model.named_parameters()}
    whole = lambda weights: number(torch.sqrt(sum((weights @ g).pow(2).sum() for g in found.values())))
    result = {
        "pixels": pixels, "channels": channels, "classes": classes, "images": chosen, "units": units, "labels": labels.tolist(),
        "logits": [[number(x) for x in row] for row in logits.tolist()],
        "losses": [number(x) for x in F.cross_entropy(logits, labels, reduction="none").tolist()],
        "loss_sum": number(F.cross_entropy(logits, labels, reduction="sum")),
        "loss_mean": number(F.cross_entropy(logits, labels)),
        "image_norms": [number(x) for x in norms(images_found)], "unit_norms": [number(x) for x in unit_norms],
        "head_unit_norms": [number(x) for x in norms(found, head)], "clip": clip,
        "sum_norm": whole(torch.ones(len(units), dtype=torch.float64)), "clipped_sum_norm": whole(factors),
        "float32_error": number(((single_norms - unit_norms) / unit_norms).abs().max()), "parameters": views,
    }
    if widths:
        result["widths"] = widths
    print(architecture, pixels, "norms", result["unit_norms"], "clip", clip, "float32", result["float32_error"])
    return result


def write(name, value):
    text = json.dumps(value, separators=(",", ":")).replace('"pixels"', '\n"pixels"')
    path = OUT / f"nn_{name}.json"
    path.write_text(text.replace(']},"', ']},\n"') + "\n")
    print(path.name, path.stat().st_size)


SINGLE, PAIRS = [[0], [1], [2], [3], [4], [5]], [[0, 1], [2], [3, 4], [5]]
SOURCE = f"PyTorch {torch.__version__}, generators/nn_vectors.py"


def optimizers():
    cases = []
    for settings in ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0},
                     {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
                     {"optimizer": "adam", "weight_decay": 0.0}, {"optimizer": "adam", "weight_decay": 0.02}):
        length, rate = 6, 0.05
        p = torch.from_numpy(hashed("optimizer/initial", length).astype(np.float64)).requires_grad_()
        initial = p.tolist()
        options = {k: v for k, v in settings.items() if k != "optimizer"}
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[settings["optimizer"]]([p], lr=rate, **options)
        gradients, parameters = [], []
        for step in range(5):
            p.grad = torch.from_numpy(hashed(f"optimizer/{step}", length).astype(np.float64))
            gradients.append(p.grad.tolist())
            optimizer.step()
            parameters.append([number(x) for x in p.tolist()])
        cases.append(settings | {"learning_rate": rate, "initial": initial, "gradients": gradients,
                                 "parameters": parameters})
    steps, base = 20, 0.3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    rates = [base]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    write("optimizers", {"source": SOURCE, "optimizers": cases, "cosine": {"base": base, "rates": rates}})


def files():
    tensor = lambda name, *shape: torch.from_numpy(hashed("file/" + name, math.prod(shape)).reshape(shape))
    state = {"conv1.weight": tensor("conv1.weight", 2, 3, 2, 2).half(), "bn1.weight": tensor("bn1.weight", 2),
             "bn1.bias": tensor("bn1.bias", 2).double(), "bn1.running_mean": tensor("bn1.running_mean", 2),
             "bn1.running_var": tensor("bn1.running_var", 2).abs(), "bn1.num_batches_tracked": torch.tensor(3),
             "fc.weight": tensor("fc.weight", 2, 3).t(), "fc.bias": tensor("fc.bias", 3).bfloat16()}
    torch.save(state, OUT / "nn_state_zip.pth")
    torch.save(state, OUT / "nn_state_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 4, "state_dict": {"module." + k: v for k, v in state.items()},
                "optimizer": {"moment": torch.ones(2)}}, OUT / "nn_state_nested.pth")
    torch.save({"conv1.weight": torch.zeros(1).expand(10**9)}, OUT / "nn_state_expanded.pth")


def main():
    chosen = sys.argv[1:] or ["optimizers", "files", "simple_cnn", "resnet18", "densenet121"]
    for name in chosen:
        if name in ("optimizers", "files"):
            {"optimizers": optimizers, "files": files}[name]()
            continue
        widths = [32, 64, 128, 256, 512] if name == "simple_cnn" else None
        single = SINGLE[:4] if name == "densenet121" else SINGLE
        cases = [case(name, 28, 1, 2, single, widths), case(name, 64, 3, 5, PAIRS, widths)]
        if widths:
            cases.append(case(name, 20, 3, 3, PAIRS, [8, 12, 16]))
        write(name, {"source": SOURCE, "architecture": name, "cases": cases})


if __name__ == "__main__":
    main()
