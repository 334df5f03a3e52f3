"""The published figures of the FC-CLIP family, with the conventions that each paper used."""

from frozenseg.cli.reproduction.paper import AP, MIOU, PQ, Column, PaperTable, Row, columns

OLD_MIOU = "semantic/mIoU_predicted_too"  # a class that is only predicted counts as 0


def _semantic(dataset: str) -> tuple[Column, ...]:
    return (Column(dataset, "mIoU", MIOU), Column(dataset, "mIoU, old evaluator", OLD_MIOU))


FAMILY = PaperTable(
    caption=(
        "The FC-CLIP family, published figures in the convention of their source\n"
        "- FC-CLIP: mIoU over annotated classes; checkpoint as published\n"
        "- Mask-Adapter: mIoU over annotated classes; checkpoint of best validation mIoU in both "
        "phases; PQ and AP not published. On MAFT+ L, ADE20K-150 was measured with "
        "MODEL.MAFT_PLUS.CDT_FORM panoptic\n"
        "- MAFT+: mIoU of the old evaluator (a class that is only predicted counts as 0); no rule "
        "for the checkpoint is known\n"
        "- MAFT+ panoptic: PQ of its authors; AP, mIoU, Cityscapes and Mapillary as rerun by "
        "OVRCOAT's authors\n"
        "- OVRCOAT: PQ of its authors with COAT; no rule for the checkpoint is known. Their result "
        "files have AP 12.7 and mIoU 33.7 with COAT in all outputs; here only panoptic has it"
    ),
    columns=(
        *columns("ade20k_150", PQ=PQ, AP=AP),
        *_semantic("ade20k_150"),
        *_semantic("ade20k_847"),
        *_semantic("pascal_context_459"),
        *_semantic("pascal_context_59"),
        *columns("cityscapes", PQ=PQ),
        *columns("mapillary_vistas", PQ=PQ),
    ),
    rows=tuple(
        Row(title, f"{folder}{name}.yaml", name, paper)
        for title, folder, name, paper in (
            (
                "FC-CLIP",
                "",
                "fcclip_convnext_large",
                (26.8, 16.8, 34.1, None, 14.8, None, 18.2, None, 58.4, None, None, None),
            ),
            (
                "Mask-Adapter",
                "family/",
                "mask_adapter_fcclip_convnext_large",
                (None, None, 36.6, None, 14.1, None, 19.3, None, 59.7, None, None, None),
            ),
            (
                "MAFT+ B",
                "family/",
                "maft_plus_convnext_base",
                (None, None, None, 34.6, None, 13.8, None, 16.2, None, 57.5, None, None),
            ),
            (
                "MAFT+ L",
                "family/",
                "maft_plus_convnext_large",
                (None, None, None, 36.1, None, 15.1, None, 21.6, None, 59.4, None, None),
            ),
            (
                "MAFT+ L panoptic",
                "family/",
                "maft_plus_convnext_large_panoptic",
                (27.1, 15.7, 33.8, None, None, None, None, None, None, None, 38.3, 15.7),
            ),
            (
                "Mask-Adapter on MAFT+ B",
                "family/",
                "mask_adapter_maft_plus_convnext_base",
                (None, None, 35.6, None, 14.2, None, 17.9, None, 58.4, None, None, None),
            ),
            (
                "Mask-Adapter on MAFT+ L",
                "family/",
                "mask_adapter_maft_plus_convnext_large",
                (None, None, 38.2, None, 16.2, None, 22.7, None, 60.4, None, None, None),
            ),
            (
                "OVRCOAT",
                "family/",
                "ovrcoat_convnext_large",
                (28.6, None, None, None, None, None, None, None, None, None, 45.3, 19.6),
            ),
        )
    ),
)
