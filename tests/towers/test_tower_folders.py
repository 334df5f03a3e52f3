"""Towers in folders: what was saved comes back, and the miniatures that ship can see."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import frozenseg
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.errors import UserError
from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD, ConvNeXtClip
from frozenseg.towers.clip_folder import build_clip, load_clip_folder
from frozenseg.towers.sam_folder import load_sam_folder, sam_from_config

SHIPPED = Path(frozenseg.__file__).parent / "weights" / "shapes"
TINY_CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"timm_model_name": "convnext_tiny_folder", "timm_proj": "linear"},
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 516,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    },
    "timm_convnext": {"depths": [1, 1, 1, 1], "dims": [4, 6, 8, 10]},
}
TINY_SAM: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "out_channels": 16,
    "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "transformer": {"depth": 1, "num_heads": 2, "mlp_dim": 16},
    "decoder": {"num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 8},
}


def write_clip_folder(folder: Path) -> Any:
    model = build_clip(TINY_CLIP).eval()
    (folder / "open_clip_config.json").write_text(json.dumps(TINY_CLIP))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "bpe.txt.gz").write_bytes(gzip.compress(b"#version: 0.2\nc a\nca t</w>"))
    return model


def test_a_clip_folder_gives_back_the_model_that_was_saved(tmp_path: Path) -> None:
    saved = write_clip_folder(tmp_path)
    model, tokenizer = load_clip_folder(tmp_path)
    tokens = tokenizer(["cat", "some word that no merge covers"])
    image = torch.rand(1, 3, 64, 64)
    for name, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with torch.no_grad():  # rounding depends on where in memory the weights lie
        torch.testing.assert_close(model.encode_text(tokens), saved.encode_text(tokens))
        torch.testing.assert_close(model.encode_image(image), saved.encode_image(image))
    assert tokens.shape == (2, 8) and tokens[0].tolist()[1] == 513  # the second merge, "cat"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_clip_folder(tmp_path)
    (tmp_path / "bpe.txt.gz").unlink()
    with pytest.raises(UserError, match=r"bpe\.txt\.gz is missing"):
        load_clip_folder(tmp_path)
    with pytest.raises(UserError, match=r"sam\.json is missing"):
        load_sam_folder(tmp_path)


def test_one_name_can_be_built_in_other_sizes() -> None:
    wider = copy.deepcopy(TINY_CLIP)
    wider["timm_convnext"]["dims"] = [4, 6, 8, 20]
    widths = [build_clip(config).visual.trunk.num_features for config in (TINY_CLIP, wider)]
    assert widths == [10, 20]


def test_a_sam_folder_gives_back_the_model_that_was_saved(tmp_path: Path) -> None:
    saved = sam_from_config(TINY_SAM).eval()
    (tmp_path / "sam.json").write_text(json.dumps(TINY_SAM))
    save_file(saved.state_dict(), tmp_path / "sam.safetensors")
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        embedding = load_sam_folder(tmp_path).image_encoder(image)
        assert embedding.shape == (1, 16, 4, 4)
        assert torch.equal(embedding, saved.image_encoder(image))


def test_shipped_clip_names_what_lies_under_a_mask() -> None:
    model, tokenizer = load_clip_folder(SHIPPED / "clip")
    tower = ConvNeXtClip(model, tokenize=tokenizer)
    prompts = [f"a photo of a {name}." for name in shapes_vocabulary("val").names]
    rows = F.normalize(tower.encode_text(prompts), dim=-1)
    hits = []
    for sample in ShapesDataset("val", size=12):
        image = (sample.image - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[
            :, None, None
        ]
        panoptic = sample.panoptic
        ids = torch.tensor([segment.id for segment in panoptic.segments])
        masks = (panoptic.ids == ids[:, None, None]).float() * 2 - 1
        masks = F.interpolate(masks[None], size=(64, 64), mode="area")
        regions = tower.embed_regions(tower(image[None]).clip_map, masks)[0]
        truth = torch.tensor([segment.class_id for segment in panoptic.segments])
        hits.append((regions @ rows.T).argmax(-1) == truth)
    assert torch.cat(hits).float().mean() > 0.65


def test_shipped_sam_outlines_what_lies_under_a_point() -> None:
    sam = load_sam_folder(SHIPPED)
    ious = []
    for sample in ShapesDataset("val", size=6):
        thing = next(segment for segment in sample.panoptic.segments if segment.is_thing)
        mask = sample.panoptic.ids == thing.id
        y, x = (int(axis.float().median()) for axis in mask.nonzero().T)
        point, label = torch.tensor([[[x, y]]]).float(), torch.ones(1, 1)
        answer = sam(
            [
                {
                    "image": sample.image.float(),
                    "original_size": (256, 256),
                    "point_coords": point,
                    "point_labels": label,
                }
            ],
            multimask_output=True,
        )[0]
        proposals = answer["masks"][0]
        overlap = (proposals & mask).sum((1, 2)) / (proposals | mask).sum((1, 2))
        ious.append(overlap.max())
    assert torch.stack(ious).mean() > 0.5
