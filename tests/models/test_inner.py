"""A network from one of its inner layers on."""

import threading

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from advcam.errors import NetworkError
from advcam.models import find, find_inner, fused, inner_or_none, split_at


def images(count=2, height=64, width=96):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def conv(given, made, stride=2):
    return nn.Conv2d(given, made, 3, stride, 1)


class Shared(nn.Module):
    """One activation module everywhere, in place; a stage with a head that is a function; a size taken from the images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.relu = nn.ReLU(inplace=True)
        self.first, self.second, self.third, self.last = conv(3, 8), conv(8, 8), conv(8, 16), conv(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        count = x.shape[0]
        x = self.relu(self.first(x))
        x = F.relu(self.second(x) + 1, inplace=True)
        x = self.relu(self.third(x))
        x = self.relu(self.last(x))
        return self.head(x.mean((2, 3)).view(count, -1))


class Split(nn.Module):
    """Modules that return a tuple, and one whose child is called before it and inside it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.twice = conv(8, 8, 1)
        self.stem = conv(3, 8)
        self.block = Twice(self.twice)
        self.finer, self.coarser, self.head = conv(8, 8), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x, _ = self.block(self.twice(self.stem(x)))
        return self.head(F.relu(self.coarser(F.relu(self.finer(self.twice(x))))).mean((2, 3)))


class Twice(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x) + x, [x.shape]


def assert_rest_is_the_network(model, layer=None, given=None):
    """The rest of the features is the network itself, of any images in any number; returns the layer."""
    given = images() if given is None else given
    network = find(model.eval(), given)
    inner = find_inner(network, given, layer)
    before = [vars(module).get("forward") for module in model.modules()]
    features, rest = split_at(network, inner, given)
    assert not features.requires_grad
    whole = network(given)
    rows = torch.tensor([1, 0, 1])
    for found, wanted in zip(rest(features[rows]), whole, strict=True):
        assert torch.allclose(found, wanted[rows], rtol=1e-4, atol=1e-5)
    assert [vars(module).get("forward") for module in model.modules()] == before
    assert all(torch.equal(again, one) for again, one in zip(network(given), whole, strict=True))
    return inner


@pytest.mark.parametrize(
    ("name", "options", "layer"),
    [
        ("resnet18", {}, "layer3"),
        ("resnet18", {"output_stride": 8}, "layer3"),
        ("mobilenetv2_050", {"output_stride": 16}, "blocks.4"),
        ("tf_efficientnet_lite0", {}, "blocks.4"),
        ("convnext_atto", {}, "stages.2"),
    ],
)
def test_it_starts_at_the_end_of_the_last_stage_but_one_whatever_the_stride(name, options, layer):
    model = timm.create_model(name, num_classes=4, **options)
    assert assert_rest_is_the_network(model).name == layer


def test_without_stages_it_starts_at_the_end_of_the_grid_before_the_coarsest():
    assert assert_rest_is_the_network(Shared()).name == "relu"  # its third call but one, of stride 8
    assert assert_rest_is_the_network(Split()).name == "finer"
    with pytest.raises(NetworkError, match="no climb can start at layer 'third'.*known: relu, second"):
        find_inner(find(Shared().eval(), images()), images(), "third")  # it is changed in place afterwards


def test_a_model_that_says_anything_else_of_its_features_is_taken_as_any_other():
    for said in (None, 3, [], ["stem"], [{"reduction": 4}], [{"module": "gone"}, {"module": "last"}]):
        model = Shared()
        model.feature_info = said
        assert assert_rest_is_the_network(model).name == "relu"


@pytest.mark.parametrize("layer", ["twice", "block", "stem"])
def test_modules_called_several_times_or_returning_tuples(layer):
    inner = assert_rest_is_the_network(Split(), layer)
    assert inner.before[-1] == layer


def test_hooks_and_patched_forwards_of_the_model_are_kept_and_count_once():
    model = Shared()
    model.second.register_forward_hook(lambda _module, _inputs, output: output * 2)
    run = model.first.forward
    model.first.forward = lambda x: run(x) + 1
    assert_rest_is_the_network(model, "second")
    assert model.first.forward is not run
    assert len(model.second._forward_hooks) == 1


def test_the_fused_copy_and_bfloat16():
    model = timm.create_model("mobilenetv2_050", num_classes=4).eval()
    network = find(model, images())
    inner = find_inner(network, images())
    for precision, near in (("float32", 1e-4), ("bfloat16", 5e-2)):
        fast = fused(network.at(precision), images(1))
        features, rest = split_at(fast, inner, images())
        assert features.dtype == torch.float32
        for found, wanted in zip(rest(features), fast(images()), strict=True):
            assert (found - wanted).abs().max().item() <= near * wanted.abs().max().item()


def test_the_gradient_is_that_of_the_network():
    model = Shared().eval()
    network = find(model, images())
    features, rest = split_at(network, find_inner(network, images(), "second"), images())
    features.requires_grad_()
    (found,) = torch.autograd.grad(rest(features)[1][:, 2].sum(), features)
    with torch.no_grad():
        known = model.second(F.relu(model.first(images())))
    torch.testing.assert_close(features.detach(), known)  # some processors round otherwise where no gradient is wanted
    known.requires_grad_()
    last = F.relu(model.last(F.relu(model.third(F.relu(known + 1)))))
    (wanted,) = torch.autograd.grad(model.head(last.mean((2, 3)))[:, 2].sum(), known)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_another_thread_that_uses_the_model_meanwhile_gets_its_own_answer():
    model = Shared().eval()
    given, other = images(), images(1, 32, 32)
    network = find(model, given)
    features, rest = split_at(network, find_inner(network, given), given)
    with torch.no_grad():
        wanted, seen = model(other), []

    def look(*_):
        with torch.no_grad():
            seen.append(model(other))

    def meanwhile(*_):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()

    hook = model.head.register_forward_hook(meanwhile)
    rest(features)
    hook.remove()
    assert torch.equal(seen[0], wanted)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.left, self.right, self.last = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.last(self.left(x) + self.right(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "layer", "said"),
    [
        (Branches(), "left", "no climb can start at layer 'left': its output has to be a feature map, to lie on every path"),
        (Branches(), "last", "no climb can start at layer 'last'"),
        (Branches(), "head", "no climb can start at layer 'head'"),
        (Branches(), "steam", "the model has no layer 'steam'; did you mean stem"),
        (nn.Sequential(conv(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), None,
         r"Sequential has no layer of a finer grid than its map .* climb its pixels \(space=pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_says_so(model, layer, said):
    network = find(model.eval(), images())
    with pytest.raises(NetworkError, match=said):
        find_inner(network, images(), layer)


class Drifting(nn.Module):
    """Its answer depends on how often it was called, so no part of it can be replaced."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last, self.head, self.calls = conv(3, 8), conv(8, 8), nn.Linear(8, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.head(F.relu(self.last(F.relu(self.stem(x)) * self.calls)).mean((2, 3)))


def test_a_network_that_gives_another_answer_from_its_own_features_is_refused():
    model = Drifting().eval()
    network = find(model, images())
    with pytest.raises(
        NetworkError, match=r"Drifting cannot be run from the output of layer 'stem' on: climb its pixels.*other"
    ):
        find_inner(network, images())


class Names(nn.Module):
    """A head that compares features with a table of as many rows as classes, made before the layer: as CLIP's does."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.stem, self.last = nn.Embedding(classes, 8), conv(3, 8), conv(8, 8)
        self.classes = classes

    def forward(self, x):
        names = self.table(torch.arange(self.classes))
        return F.relu(self.last(F.relu(self.stem(x)))).mean((2, 3)) @ names.T


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_table_with_as_many_rows_as_there_are_images_is_not_taken_for_theirs(count):
    model = Names(3).eval()
    network = find(model, images())
    features, rest = split_at(network, find_inner(network, images()), images(count))
    assert torch.allclose(rest(features)[1], network(images(count))[1], rtol=1e-4, atol=1e-6)
    assert torch.allclose(rest(features[:1].repeat(5, 1, 1, 1))[1], network(images(1))[1].expand(5, -1), rtol=1e-4, atol=1e-6)


class Masked(nn.Module):
    """What follows the layer also depends on the image through a mask that has no gradient."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last, self.head = conv(3, 8), conv(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        shown = (F.avg_pool2d(x.abs().sum(1, keepdim=True), 4) > 0).float()
        return self.head((F.relu(self.last(F.relu(self.stem(x)))) * shown).mean((2, 3)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_depends_on_the_images_without_a_gradient_gives_no_wrong_number(precision):
    model, given = Masked().eval(), images()
    given[1, :, 32:] = 0
    network = find(model, given).at(precision)
    inner = find_inner(network, given)
    features, rest = split_at(network, inner, given)
    with pytest.raises(
        NetworkError, match="Masked gives other logits from the output of its layer 'stem' than from the images"
    ):
        rest(features)
    features, rest = split_at(network, inner, given[1:])  # alone it has its own mask
    assert torch.allclose(rest(features)[1], network(given[1:])[1], atol=1e-5 if precision == "float32" else 1e-2)


class Hungry(Shared):
    """Runs out of memory where it is given several images."""

    enough = False

    def forward(self, x):
        if len(x) > 1 and not self.enough:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x)


def test_too_little_memory_does_not_say_that_there_is_no_such_layer():
    model = Hungry().eval()
    network = find(model, images(1))
    with pytest.raises(NetworkError, match="out of memory"):
        inner_or_none(network, images(1))
    model.enough = True
    assert inner_or_none(network, images(1)) == find_inner(network, images(1))
    assert inner_or_none(find(timm.create_model("test_vit"), images(1, 160, 160)), images(1, 160, 160)) is None


class Counted(Shared):
    """State that the end of its forward resets."""

    inside = 0

    def forward(self, x):
        if self.inside:
            raise RuntimeError("it is inside already")
        self.inside += 1
        logits = super().forward(x)
        self.inside -= 1
        return logits


def test_no_forward_pass_is_ended_early():
    model = Counted()
    assert_rest_is_the_network(model)
    assert model.inside == 0


def test_stages_are_found_inside_of_a_wrapper():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = timm.create_model("mobilenetv2_050", num_classes=4)

        def forward(self, x):
            return self.net((x - 0.5) / 0.5)

    assert assert_rest_is_the_network(Wrapped()).name == "net.blocks.4"


def test_layers_that_run_otherwise_later_are_traced_anew():
    class Switched(Shared):
        plain = True

        def forward(self, x):
            return (
                super().forward(x)
                if self.plain
                else self.head(F.relu(self.last(self.third(F.relu(self.second(self.first(x)))))).mean((2, 3)))
            )

    model = Switched().eval()
    network = find(model, images())
    inner = find_inner(network, images())
    model.plain = False
    with pytest.raises(NetworkError, match="did not run: the model runs other layers than when it was traced. Call again"):
        split_at(network, inner, images())
    network = find(model, images())
    assert find_inner(network, images()).name == "third"


def test_a_layer_that_does_not_run_for_these_images_is_an_error():
    class Skipping(Shared):
        def forward(self, x):
            if x.shape[2] > 40:
                return super().forward(x)
            return self.head(F.relu(self.last(x.repeat(1, 6, 1, 1)[:, :16])).mean((2, 3)))

    model = Skipping().eval()
    network = find(model, images(1, 128, 128))
    inner = find_inner(network, images(1, 128, 128))
    with pytest.raises(NetworkError, match="layer 'relu' did not run: the model runs other layers than when it was traced"):
        split_at(network, inner, images(1, 32, 32))


def test_rounding_in_bfloat16_is_no_reason_to_refuse(photos):
    """Logits of a network with weights of ImageNet, some of which differ by more than a rounding from those of the features."""
    model = timm.create_model("mobilenetv2_100", pad_type="same", output_stride=16, num_classes=1001).eval()
    model.load_state_dict(load_file(photos / "mobilenetv2_100.imagenet.safetensors"))
    cats = model.classifier.weight.detach()[282:287]
    model.classifier = nn.Linear(cats.shape[1], len(cats))
    model.classifier.weight = nn.Parameter(cats - cats.mean(0))  # small differences of large logits
    network = inner = None
    for path in sorted((photos / "images").iterdir())[:24]:
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB").resize((160, 120)), np.float32))
        image = pixels.permute(2, 0, 1)[None] / 127.5 - 1
        network = network or find(model, image).at("bfloat16")
        inner = inner or find_inner(network, image)
        features, rest = split_at(network, inner, image)
        rest(features)
