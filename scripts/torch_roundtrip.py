#!/usr/bin/env python3
"""Check that a model file means the same to medfed and to PyTorch, in both directions.

Usage: python scripts/torch_roundtrip.py [--medfed target/release/medfed] MODEL.safetensors [IMAGE ...]

1. The file is loaded into torchvision's network with GroupNorm in place of BatchNorm (or into SimpleCNN
   below), strictly: every name and shape must match. Its logits for the images are compared with those
   of `medfed predict --json`.
2. In PyTorch, every parameter is changed, and the result is written with the same metadata. `medfed
   predict` loads it, and the logits are compared again.

Logits may differ by 1e-4, relative to the largest if that is above 1. Images must have the model's size,
so that nobody resizes; without any, eight random ones are drawn. Exit code 1 if anything differs.
Needs: torch, torchvision, safetensors, pillow, numpy. Not part of the tests: continuous integration has
no Python. What is compared there are the values that testdata/generators/nn_vectors.py computed.
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import numpy as np
import torch, torch.nn as nn
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import densenet121, resnet18

TOLERANCE = 1e-4


def groups(limit, channels):
    count = min(limit, channels)
    while channels % count:
        count -= 1
    return count


class SimpleCnn(nn.Module):
    def __init__(self, shape, classes, widths):
        super().__init__()
        (channels, *sides), layers = shape, []
        for out in widths:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(groups(8, out), out), nn.ReLU()]
            if min(sides) > 1:
                layers, sides = layers + [nn.MaxPool2d(2)], [side // 2 for side in sides]
            channels = out
        self.features, self.head = nn.Sequential(*layers), nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def norm(channels):
    return nn.GroupNorm(groups(32, channels), channels)


def group_norm(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, norm(child.num_features))
        else:
            group_norm(child)
    return module


def build(metadata):
    shape, classes = json.loads(metadata["input_shape"]), len(json.loads(metadata["classes"]))
    if metadata["architecture"] == "simple_cnn":
        return SimpleCnn(shape, classes, json.loads(metadata.get("channels", "[32, 64, 128, 256, 512]")))
    small = min(shape[1:]) < 64
    window = dict(kernel_size=3, padding=1) if small else dict(kernel_size=7, stride=2, padding=3)
    stem = nn.Conv2d(shape[0], 64, bias=False, **window)
    if metadata["architecture"] == "resnet18":
        model = resnet18(num_classes=classes)
        model.conv1 = stem
        model.maxpool = nn.Identity() if small else model.maxpool
    else:
        model = densenet121(num_classes=classes)
        model.features.conv0 = stem
        model.features.pool0 = nn.Identity() if small else model.features.pool0
    return group_norm(model)


def load(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def torch_logits(model, metadata, paths):
    shape = json.loads(metadata["input_shape"])
    mean, std = (torch.tensor(json.loads(metadata[f"normalization_{key}"]))[:, None, None] for key in ("mean", "std"))
    images = []
    for path in paths:
        image = Image.open(path).convert("L" if shape[0] == 1 else "RGB")
        if image.size != (shape[2], shape[1]):
            sys.exit(f"{path} has {image.size[0]}x{image.size[1]} pixels, the model's size is {shape[2]}x{shape[1]}")
        pixels = torch.from_numpy(np.array(image)).float() / 255
        images.append((pixels.reshape(shape[1], shape[2], shape[0]).permute(2, 0, 1) - mean) / std)
    with torch.no_grad():
        return model.eval()(torch.stack(images)).numpy()


def medfed_logits(medfed, model, paths):
    run = subprocess.run([medfed, "predict", "--json", "--model", model, *paths], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return np.array([prediction["logits"] for prediction in json.loads(run.stdout)["predictions"]])


def compare(what, ours, theirs):
    difference = np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max())
    print(f"{what}: {ours.shape[0]} images, logits {theirs.min():.4f} to {theirs.max():.4f}, difference {difference:.2e}")
    return difference <= TOLERANCE


def draw(shape, folder):
    generator, paths = np.random.default_rng(0), []
    for index in range(8):
        pixels = generator.integers(0, 256, (shape[1], shape[2], shape[0]), dtype=np.uint8)
        paths.append(str(folder / f"{index}.png"))
        Image.fromarray(pixels.squeeze()).save(paths[-1])
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--medfed", default="target/release/medfed")
    parser.add_argument("model")
    parser.add_argument("images", nargs="*")
    args = parser.parse_args()
    tensors, metadata = load(args.model)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images = args.images or draw(json.loads(metadata["input_shape"]), folder)
        model = build(metadata)
        model.load_state_dict(tensors, strict=True)
        same = compare("medfed to PyTorch", medfed_logits(args.medfed, args.model, images),
                       torch_logits(model, metadata, images))
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * parameter.abs().mean() * torch.randn_like(parameter))
        changed = str(folder / "changed.safetensors")
        save_file(model.state_dict(), changed, metadata)
        same &= compare("PyTorch to medfed", medfed_logits(args.medfed, changed, images),
                        torch_logits(model, metadata, images))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
