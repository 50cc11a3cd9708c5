"""``tracejit.utils.model_zoo``: torch's old name of ``hub``'s download helpers, which refuse.

Invariant: nothing is downloaded. `tqdm` is the package's progress bar where it is installed.
"""

from importlib.util import find_spec as _find_spec

from tracejit.hub import load_state_dict_from_url, load_url

if _find_spec("tqdm") is not None:
    from tqdm import tqdm
else:
    tqdm = iter

__all__ = ["load_state_dict_from_url", "load_url", "tqdm"]
