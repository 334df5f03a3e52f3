"""One update of CLIP on mined pairs: fine-tuning or mask prompt tuning (OVSeg, sec. 3.2, 3.3)."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.losses.contrastive import clip_loss
from frozenseg.runtime.distributed import gather_rows
from frozenseg.towers.clip_vit import CropClip
from frozenseg.training.divergence import MAX_LOSS, Diverged, confirm_update, loss_message
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.pair_batches import PairBatch
from frozenseg.training.step import apply_update

MAX_LOG_SCALE = math.log(100)  # CLIP's temperature is kept in [0, ln 100]
BETAS, EPSILON = (0.9, 0.98), 1e-6
ADVICE = (
    "lower --lr or pass --precision float32, and continue from the last checkpoint, if there is "
    "one, with --resume"
)


class PairStep:
    """Makes one update from this process's pairs; the loss is over those of all processes.

    Args:
        model: its parts that learn are chosen (``CropClip.unfreeze``). Blank patches are replaced
            by mask prompts if these learn; otherwise crops are encoded as they are.
        optimizer: over the parts that learn.
        titles: all that occur. They are encoded once, without a template: the text encoder never
            learns, and rows that depended on the batch would differ after a resume.
        device: of model and batches.
        autocast: type of mixed precision; None: off. float16 also scales the loss.
    """

    def __init__(
        self,
        *,
        model: CropClip,
        optimizer: ClippedAdamW,
        titles: Iterable[str],
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.device, self.autocast = device, autocast
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast is torch.float16)
        prompts = model.mask_prompts
        self.use_prompts = prompts is not None and prompts.requires_grad
        self._rows = embed_titles(model, titles)
        self._names: list[str] = []  # of the crops of the last update

    def __call__(self, batches: Sequence[PairBatch]) -> dict[str, Tensor]:
        """Updates the weights and returns the loss and CLIP's temperature. Collective.

        Args:
            batches: exactly one, as the loss compares the pairs of a whole batch.

        Raises:
            Diverged: the loss is not finite, or the gradient of the previous update was not.
        """
        (batch,) = batches
        loss = self.loss(batch)
        if not abs(loss.item()) <= MAX_LOSS:  # also true for nan
            raise Diverged(loss_message({"loss": loss.item()}, batch.names, advice=ADVICE))
        self.confirm()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self._names = batch.names
        self._update()
        scale = self.model.logit_scale.detach()
        return {"total_loss": loss.detach(), "logit_scale": scale.clone()}

    def loss(self, batch: PairBatch) -> Tensor:
        """Returns the contrastive loss over the pairs of all processes. Collective."""
        pixels = self.model.normalize(list(batch.images.to(self.device)), self.model.image_size)
        masks = batch.masks.to(self.device) if self.use_prompts else None
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            embeddings = self.model.embed_crops(pixels, masks)
        images = gather_rows(F.normalize(embeddings.float(), dim=-1))
        texts = gather_rows(torch.stack([self._rows[title] for title in batch.titles]))
        return clip_loss(images, texts, self.model.model.logit_scale.exp())

    def confirm(self) -> None:
        """Checks that the last update was applied; see ``confirm_update``.

        Raises:
            Diverged: its gradient is not finite.
        """
        confirm_update(self.model, self.optimizer, self.scaler, self._names, advice=ADVICE)

    def _update(self) -> None:
        apply_update(self.optimizer, self.scaler)
        with torch.no_grad():
            self.model.model.logit_scale.clamp_(0, MAX_LOG_SCALE)


def embed_titles(clip: CropClip, titles: Iterable[str]) -> dict[str, Tensor]:
    """Returns the (D,) text row, of unit length, of each title."""
    distinct = sorted(set(titles))
    rows = F.normalize(clip.encode_text(distinct).float(), dim=-1)
    return dict(zip(distinct, rows, strict=True))


def build_pair_optimizer(model: CropClip, *, lr: float, weight_decay: float) -> ClippedAdamW:
    """Returns AdamW over the parts that learn; 1-D parameters do not decay, nothing is clipped.

    Args:
        model: its parts that learn are chosen.
        lr: learning rate before the schedule.
        weight_decay: of parameters of at least two dimensions.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.dim() >= 2]
    others = [parameter for parameter in learning if parameter.dim() < 2]
    common = {"lr": lr, "initial_lr": lr, "betas": BETAS, "eps": EPSILON}
    return ClippedAdamW(
        [
            {"params": matrices, "weight_decay": weight_decay, **common},
            {"params": others, "weight_decay": 0.0, **common},
        ],
        clip_norm=None,
    )
