"""Trained members beside the proposer: which a file holds, which a model has, and both compared."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frozenseg.checkpoint.weights import StoredParts
from frozenseg.errors import UserError
from frozenseg.io.text import one_line
from frozenseg.io.weight_files import WeightsFile, describe_differences
from frozenseg.pipeline.model import SegmentationModel


class Member(NamedTuple):
    """A trained member of the FC-CLIP family.

    Args:
        title: for messages.
        model: name of the configuration that has it.
        width: the weight whose second axis is the width of CLIP's embeddings.
        models: names of other configurations, by that width.
    """

    title: str
    model: str
    width: str
    models: Mapping[int, str] = MappingProxyType({})

    def configuration_of(self, own: Mapping[str, Tensor]) -> str:
        """Returns the name of the configuration that weights of the member belong to."""
        weight = own.get(self.width)
        wide = 0 if weight is None or weight.dim() < 2 else weight.shape[1]
        return self.models.get(wide, self.model)


ADAPTER = "region_classifier.adapter."
MAP_NOTE = "text_transfer_map"  # in files of ours, if their maps were "scrambled"
MEMBERS = {
    ADAPTER: Member("a Mask-Adapter", "mask-adapter-fcclip-convnext-large", "fuse.weight"),
    "text_transfer.network.": Member(
        "MAFT+'s text transfer",
        "maft-plus-convnext-large",
        "mlp.weight",
        MappingProxyType({640: "maft-plus-convnext-base"}),
    ),
}
FUSE = "fuse it with the decoder's file (frozenseg convert WARMUP OUTPUT --decoder FILE)"


def check_members(
    model: SegmentationModel, parts: StoredParts, *, source: str, optional: bool = False
) -> None:
    """Refuses a file whose trained members are not those of the model.

    Args:
        model: the system that the weights are for.
        parts: of the file.
        source: the file's name in messages.
        optional: a member that the file lacks is no error, for training one.

    Raises:
        UserError: a member is unknown to the model, missing, of another width or of other sizes; or
            the decoder is missing.
    """
    source = one_line(source)
    for prefix, member in MEMBERS.items():
        own = _below(parts.members, prefix)
        module = model.trained_members.get(prefix)
        if own and module is None:
            raise UserError(
                f"{source} holds {member.title}, which the configuration does not have: choose "
                f"{member.configuration_of(own)}"
            )
        if module is not None and not own and not optional:
            raise UserError(
                f"{source} holds no weights of {member.title}, which the configuration has: "
                f"give a file of {member.model}, or choose the configuration of the decoder alone"
            )
        if module is not None and own:
            _check_sizes(member, module, own, source)
    if _below(parts.members, ADAPTER) and not _holds_decoder(parts.proposer):
        raise UserError(
            f"{source} holds a Mask-Adapter after its warm-up, without a decoder: {FUSE}"
        )


def has_scrambled_map(weights: WeightsFile) -> bool:
    """Returns True if a text transfer was trained on scrambled maps, as the published ones were."""
    official = any(name.startswith("cdt.") for name in weights.tensors)
    return official or weights.notes.get(MAP_NOTE) == "scrambled"


def map_note(*, scrambled: bool) -> dict[str, str]:
    """Returns the note about the maps that a text transfer was trained on; none if straight."""
    return {MAP_NOTE: "scrambled"} if scrambled else {}


def load_members(model: SegmentationModel, parts: StoredParts) -> None:
    """Copies the checked members of a file into a model; those that it lacks stay as they are."""
    for prefix, module in model.trained_members.items():
        load_member(module, _below(parts.members, prefix))


def load_member(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies weights into a module; an empty state leaves it as it is."""
    with torch.no_grad():
        for name, value in module.named_parameters() if state else ():
            value.copy_(state[name])


def fused_parts(
    warmup: StoredParts, decoder: StoredParts, *, sources: tuple[str, str]
) -> StoredParts:
    """Returns the adapter of a warm-up with the decoder and void of another file.

    Args:
        warmup: holds the adapter.
        decoder: of FC-CLIP, FrozenSeg or MAFT+, trained on the same CLIP.
        sources: the files' names in messages, in this order.

    Raises:
        UserError: the warm-up has no adapter, the other file has no decoder, or they hold different
            CLIP towers.
    """
    first, second = map(one_line, sources)
    if not _below(warmup.members, ADAPTER):
        raise UserError(f"{first} holds no Mask-Adapter: give the file of its warm-up first")
    if not _holds_decoder(decoder.proposer):
        raise UserError(
            f"{second} holds no decoder: give the file of FC-CLIP or FrozenSeg with --decoder"
        )
    towers = warmup.towers.get("clip", {}), decoder.towers.get("clip", {})
    if all(towers) and describe_differences(*towers):
        raise UserError(
            f"{first} and {second} hold CLIP towers of different sizes: give files of one tower"
        )
    differing = [name for name in towers[0] if name in towers[1] and not _near(name, *towers)]
    if differing:
        raise UserError(
            f"{first} and {second} hold different CLIP towers ({differing[0]}): give files of one "
            "tower"
        )
    members = {**decoder.members, **warmup.members}
    return StoredParts(decoder.proposer, decoder.towers or warmup.towers, members)


def _near(name: str, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    a, b = first[name], second[name]
    return not a.is_floating_point() or torch.allclose(a.float(), b.float(), 1e-3, 1e-5)


def _check_sizes(member: Member, module: nn.Module, own: Mapping[str, Tensor], source: str) -> None:
    wanted = dict(module.named_parameters())
    found, width = own.get(member.width), wanted[member.width].shape[1]
    if found is not None and found.dim() > 1 and found.shape[1] != width:
        raise UserError(
            f"{source} holds {member.title} for {found.shape[1]}-wide CLIP embeddings, but the "
            f"configured CLIP has {width}: choose the configuration of the tower that it was "
            "trained on"
        )
    if differences := describe_differences(wanted, own):
        raise UserError(
            f"{source} holds {member.title} of another architecture: {differences}. Choose the "
            "configuration that it was trained with"
        )


def _holds_decoder(proposer: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("transformer_decoder.") for name in proposer)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
