"""Training clips of one's own footage, chosen in the four steps of HQ-VSR (DOVE, arXiv 2505.16239).

What is known of a source and of each scene is measured once and kept (`records`); what becomes of it is
decided from these numbers by pure functions (`metadata`, `selection`), so that other limits need no other
reading.
"""

from training.dataset.build import DatasetSummary, build_dataset
from training.dataset.config import DatasetConfig, load_dataset_config
from training.dataset.licences import LicenceBook

__all__ = ["DatasetConfig", "DatasetSummary", "LicenceBook", "build_dataset", "load_dataset_config"]
