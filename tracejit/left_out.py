"""Names of torch that tracejit does not have, and why: what ``torch.stft`` says instead of failing
with a bare name.

Invariant: none of these names exists here; the groups are those of docs/names.md.
"""

from __future__ import annotations

_GROUPS = {
    "tensors of complex numbers do not exist here": (
        "chalf complex fft imag istft polar stft view_as_complex "
        "view_as_complex_copy view_as_real view_as_real_copy"
    ),
    "tensors are dense here; index_add, scatter and masks say the same with dense tensors": (
        "ccol_indices_copy col_indices_copy crow_indices_copy dsmm hsmm hspmm indices_copy "
        "row_indices_copy saddmm smm sparse sparse_bsc_tensor sparse_bsr_tensor "
        "sparse_compressed_tensor sparse_coo_tensor sparse_csc_tensor sparse_csr_tensor spmm "
        "sspaddmm values_copy"
    ),
    "lists of tensors and masks stand for nested tensors": "nested",
    "there are no quantized tensors": (
        "choose_qparams_optimized dequantize empty_quantized fake_quantize_per_channel_affine "
        "fake_quantize_per_tensor_affine fused_moving_avg_obs_fake_quant int_repr "
        "q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point "
        "qint32 qint8 quantization quantize_per_channel quantize_per_tensor "
        "quantize_per_tensor_dynamic quint8"
    ),
    "programs are not exported; tracejit.compile(f).ir() shows the graph": (
        "export import_ir_module parse_ir"
    ),
    "it takes other arguments than nn.functional.embedding_bag, which there is": "embedding_bag",
    "linalg.eigh gives all eigenvalues; there is no iteration for a few": "lobpcg",
    "a file is read with numpy.memmap and torch.from_numpy": "from_file",
}
LEFT_OUT = {name: why for why, names in _GROUPS.items() for name in names.split()}
