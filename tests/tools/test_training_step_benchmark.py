import torch
from benchmarks.training_step import benchmark, configuration

from frozenseg.config import CONFIG_ROOT


def test_each_saving_that_is_switched_off_keeps_or_computes_more() -> None:
    cfg = configuration(str(CONFIG_ROOT / "shapes" / "frozenseg.yaml"), batch=1, crop=64)
    figures = benchmark(cfg, updates=1, device=torch.device("cpu"), autocast=None)
    kept = {figure["row"]: figure["kept_mb_per_image"] for figure in figures}
    shipped = kept["as shipped"]
    assert kept["a copy to the host per layer"] == kept["optimizer not fused"] == shipped
    assert shipped < kept["products keep their arguments"] < kept["all off"]
    assert shipped < kept["towers keep activations"] < kept["all off"]
    assert all(figure["cpu_seconds_per_update"] > 0 for figure in figures)
