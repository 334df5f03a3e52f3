"""One process of ``train_net.py --engine detectron2``."""

import logging
import os
from pathlib import Path

import torch
from detectron2.config import CfgNode as CompleteNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger
from fvcore.common.config import CfgNode

from frozenseg.builders.evaluation import check_test_sets
from frozenseg.builders.model import has_trained_parts
from frozenseg.detectron2.config import detectron2_config
from frozenseg.detectron2.trainer import Trainer
from frozenseg.detectron2.weights import PREFIX
from frozenseg.errors import UserError
from frozenseg.runtime.devices import process_device
from frozenseg.runtime.distributed import is_distributed
from frozenseg.runtime.run_folder import describe_run, set_up_logging
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.divergence import DIVERGED_EXIT_CODE, Diverged

logger = logging.getLogger(__name__)


def run(cfg: CfgNode, *, resume: bool = False, eval_only: bool = False) -> int:
    """Trains or evaluates, and returns the exit status of the native engine. Collective.

    With several processes, ``LOCAL_WORLD_SIZE`` must hold the number on this machine.

    Args:
        cfg: the configuration, without Detectron2's keys.
        resume: continue from the newest checkpoint.
        eval_only: evaluate without training.

    Raises:
        UserError: a mistake that the user can fix.
    """
    if is_distributed():
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    folder = Path(cfg.OUTPUT_DIR)
    set_up_logging(folder, rank=comm.get_rank())
    logger.info("engine: detectron2, output: %s", folder)
    check_test_sets(cfg)
    complete = detectron2_config(cfg).clone()
    complete.defrost()
    complete.MODEL.DEVICE = str(process_device(cfg.MODEL.DEVICE))
    if eval_only and not cfg.MODEL.WEIGHTS and has_trained_parts(cfg):
        complete.MODEL.WEIGHTS = _newest_checkpoint(folder)
    complete.freeze()
    _set_up(complete, eval_only=eval_only)
    if eval_only:
        Trainer.test(complete, Trainer.build_model(complete, for_training=False))
        return 0
    trainer = Trainer(complete)
    trainer.resume_or_load(resume)
    if comm.is_main_process():
        describe_run(folder, cfg.dump(), engine="detectron2", resumed=trainer.start_iter > 0)
    try:
        trainer.train()
    except Diverged as error:
        logger.error("after iteration %d: %s", trainer.iter, error)
        return DIVERGED_EXIT_CODE
    except SystemExit as asked_to_stop:
        logger.info("stopped after iteration %d; --resume continues the run", trainer.iter + 1)
        return int(asked_to_stop.code or 0)
    return 0


def _set_up(cfg: CompleteNode, *, eval_only: bool) -> None:
    """Does the work of Detectron2's ``default_setup``, except ``config.yaml`` and the seed.

    ``config.yaml`` is written when the training starts, with this project's keys only, so that runs
    of both engines can be compared; the trainer sets the seed.
    """
    for name in ("fvcore", "detectron2"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
    logging.getLogger("detectron2").info("environment:\n%s", collect_env_info())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not eval_only
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)


def _newest_checkpoint(folder: Path) -> str:
    path = CheckpointFolder(folder / "checkpoints").newest_path()
    if path is None:
        raise UserError(
            f"MODEL.WEIGHTS is empty and {folder} has no checkpoint: set it to trained weights, "
            "ours or an official .pth"
        )
    return PREFIX + str(path)
