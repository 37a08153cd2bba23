"""What others report: R² of LV phenotypes from the ECG, UK Biobank, fine-tuned. Other people, other splits: no comparison."""

SOURCE = (
    "UK Biobank, fine-tuned, as printed by the authors of OTiS (Turgut et al., arXiv 2410.07299): other people, another split,"
    " another size. Not comparable with this study."
)
_PHENOTYPES = ("LVEDV", "LVESV", "LVSV", "LVEF", "LVM")
_TABLE = {
    "other data: ECG masked autoencoder": (0.478, 0.475, 0.349, 0.233, 0.565),
    "other data: cross-modal autoencoder": (0.451, 0.380, 0.316, 0.103, 0.536),
    "other data: global alignment (MMCL)": (0.498, 0.497, 0.360, 0.245, 0.597),
}
PUBLISHED = {name: dict(zip(_PHENOTYPES, values, strict=True)) for name, values in _TABLE.items()}
