"""The people that an ECG is compared with: vectors and phenotypes without ids, and private all the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, table_metadata, write_table
from ptacl.errors import ArtifactError

KIND, VERSION = "gallery", 1
NEAREST = 10
_OF = "ptacl.vectors_of"


@dataclass(frozen=True)
class Gallery:
    """vectors: float32 [n, D] of unit length, of cines (`cmr`) or of ECGs (`ecg`); values: float64 [n] by phenotype."""

    vectors: np.ndarray
    values: Mapping[str, np.ndarray]
    of: str

    def nearest(self, vector: np.ndarray, k: int = NEAREST) -> dict[str, Any]:
        """Phenotypes of the k people with the largest cosine: median, quartiles and number of known values.

        vector: [D]. Raises ArtifactError where its width is not the gallery's.
        """
        if len(self.vectors) == 0 or vector.shape != self.vectors.shape[1:]:
            raise ArtifactError(
                f"the gallery holds {len(self.vectors)} vectors of width {self.vectors.shape[1]}, the model makes"
                f" vectors of width {len(vector)}: take the gallery of the same method and seed"
            )
        cosine = self.vectors @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        best = np.argsort(-cosine, kind="stable")[:k]
        found = {}
        for name, values in self.values.items():
            known = values[best][np.isfinite(values[best])]
            if len(known):
                low, middle, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist()
                found[name] = {"median": middle, "lower_quartile": low, "upper_quartile": high, "n": len(known)}
        return {"k": len(best), "gallery": len(self.vectors), "of": self.of, "phenotypes": found}


def write_gallery(
    path: Path, vectors: np.ndarray, values: Mapping[str, np.ndarray], of: str, settings: Mapping[str, Any]
) -> None:
    """Writes a gallery; vectors [n, D] are brought to unit length."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    columns = {"vector": pa.array(list(unit), pa.list_(pa.float32()))}
    columns |= {n: pa.array(v, pa.float32(), from_pandas=True) for n, v in values.items()}
    write_table(path, pa.table(columns), kind=KIND, version=VERSION, settings=settings, extra={_OF: of})


def load_gallery(path: str | Path) -> Gallery:
    """Reads a gallery. Raises ArtifactError."""
    table = read_table(path, kind=KIND, version=VERSION)
    names: Sequence[str] = [n for n in table.column_names if n != "vector"]
    vectors = np.array(table["vector"].to_pylist(), np.float32).reshape(table.num_rows, -1)
    values = {n: table[n].to_numpy(zero_copy_only=False).astype(np.float64) for n in names}
    return Gallery(vectors, values, table_metadata(table)[_OF])
