"""What went wrong in the systems before this one, and the tests that show it does not here.

Each clause is drawn from public threads of the projects named after it (pt pytorch, jax jax-ml/jax,
tg tinygrad, nb numba, lt lightning-thunder, mlx, tvm). Invariant: every clause names tests that
exist (`test_pitfalls.py` looks), none is only promised; what needs a GPU says so.
"""

from __future__ import annotations

from typing import NamedTuple


class Clause(NamedTuple):
    """One pitfall: what must hold, where it was met, and ``file::test`` names below ``tests/``."""

    text: str
    met: str
    tests: str


STATE = "faithfulness/test_captured_state.py"
OBJECTS = "faithfulness/test_objects.py"
MODES = "faithfulness/test_modules_and_modes.py"
ARGUMENTS = "faithfulness/test_arguments_and_shapes.py"
NUMBERS = "faithfulness/test_numbers.py"
OUTPUTS = "faithfulness/test_outputs.py"
WRITES = "faithfulness/test_mutation_and_outputs.py"
NUMERICS = "faithfulness/test_numerics.py"
RANDOM = "faithfulness/test_random.py"
PROCESS = "faithfulness/test_process.py"
ERRORS = "faithfulness/test_errors.py"
CACHE = "codegen/test_cache.py"

CLAUSES: dict[str, list[Clause]] = {
    "Captured state": [
        Clause("a global int or array is rebound or incremented between calls",
               "jax 1348, pt 108898",
               f"{STATE}::test_global_int test_global_counter test_numpy_global"
               " test_global_tensor_rebound test_global_tensor_in_place"),
        Clause("an attribute written inside the function is visible after it", "jax 15817",
               f"{OBJECTS}::test_attribute_written test_attribute_created"),
        Clause("two closures over different functions or operators share nothing", "pt 197811",
               f"{STATE}::test_two_closures test_closure_operator"),
        Clause("an instance's `__dict__` hides a class attribute", "pt 197859",
               f"{OBJECTS}::test_instance_shadows_class"),
        Clause("two bound methods of one class", "pt 197860, tg footgun",
               f"{OBJECTS}::test_bound_methods test_method_shared"),
        Clause("a branch on a Python flag that is flipped", "tg footgun", f"{STATE}::test_flag"),
        Clause("train() and eval() toggled after compile", "lt sharp edges",
               f"{MODES}::test_train_eval test_inner_train"),
        Clause("no_grad toggled", "", f"{MODES}::test_no_grad test_no_grad_inside"),
        Clause("arguments named inf, nan, t0, and names that look like code", "pt 97688",
               f"{STATE}::test_odd_names test_odd_constants"),
    ],
    "Arguments and shapes": [
        Clause("the same tensor passed twice, two views of one buffer", "lt 1235, tg footgun",
               f"{ARGUMENTS}::test_same_tensor_twice test_same_tensor_written"
               " test_overlapping_views test_view_and_base"),
        Clause("one parameter by position and by keyword", "tg footgun",
               f"{ARGUMENTS}::test_keywords test_keyword_order"),
        Clause("nested compiled functions, three calls each", "tg footgun",
               f"{ARGUMENTS}::test_nested_compiled"),
        Clause("batch sizes 0, 1, 2, 7, 64 in random order, kernels bounded",
               "pt 106067, pt 186893",
               f"{ARGUMENTS}::test_batch_sizes test_thousand_batch_sizes"),
        Clause("1,000 learning rates compile nothing new", "pt 107076",
               f"{ARGUMENTS}::test_lr_schedule {NUMBERS}::test_thousand_numbers"),
        Clause("ints beyond 2**31 and float64 numbers promote as in eager", "",
               f"{ARGUMENTS}::test_large_numbers {NUMBERS}::test_int_limits test_int_promotion"),
    ],
    "Mutation and outputs": [
        Clause("the output of call 1 stays after call 2; z = f(f(x))", "tg footgun, pt 152887",
               f"{OUTPUTS}::test_outputs_stay test_fed_back"),
        Clause("x.log_() leaves earlier results alone", "pt 94777", f"{WRITES}::test_log_in_place"),
        Clause("expand, then an in-place write: as eager or an error", "pt 152425",
               f"{WRITES}::test_expand_write test_expand_argument"),
        Clause("a write through a view is read from the base, and the reverse",
               "pt 198101, pt 198102", f"{WRITES}::test_view_then_base test_base_then_view"),
        Clause("a slice assignment is seen by a later read", "tg footgun",
               f"{WRITES}::test_slice_assignment"),
        Clause("a write to a tensor saved for backward raises", "",
               f"{WRITES}::test_saved_changed test_input_changed_before_backward"),
    ],
    "Numerics": [
        Clause(".to(bfloat16) and float16 inside a fused chain really round", "pt 181568",
               f"{NUMERICS}::test_half_rounds test_half_each_op"),
        Clause("float16 overflow gives eager's NaN and inf", "pt 183605",
               f"{NUMERICS}::test_half_overflow"),
        Clause("min, max, clamp, amax of NaN, -0.0 and inf", "pt 93784, pt 196030",
               f"{NUMERICS}::test_min_max_special"),
        Clause("isnan and isinf are not optimised away", "nb 8708", f"{NUMERICS}::test_isnan"),
        Clause("layer_norm and rsqrt fused", "pt 186577", f"{NUMERICS}::test_layer_norm_rsqrt"),
        Clause("the gradient of amax with ties", "pt 186799", f"{NUMERICS}::test_amax_ties"),
        Clause("the order of a sum does not depend on the number of threads", "",
               f"{NUMERICS}::test_sums_do_not_depend_on_threads"),
        Clause("exp, log, tanh, erf against a reference, subnormals too", "",
               f"{NUMERICS}::test_unary_bits test_unary_against_float64"
               " codegen/test_mathlib.py::test_error_is_at_most_two_ulp test_special_values"),
    ],
    "Random numbers": [
        Clause("one seed, one mask, eager and compiled (on a GPU: shown where there is one)", "",
               f"{RANDOM}::test_dropout_mask test_all_draws"),
        Clause("ten compiled calls give ten masks", "jax 1141, mlx docs",
               f"{RANDOM}::test_ten_masks"),
        Clause("an unrelated op, or a loop split, leaves the mask alone", "pt 192635",
               f"{RANDOM}::test_unrelated_op"),
    ],
    "Processes": [
        Clause("32 threads make the first call at once", "pt 123177",
               f"{PROCESS}::test_32_first_callers"
               " codegen/test_compiler.py::test_32_threads_ask_and_one_compiles"),
        Clause("fork after compile, the child calls", "nb 7872",
               f"{PROCESS}::test_fork_after_compile"),
        Clause("a DataLoader's worker runs a compiled transform", "pt 97992",
               f"{PROCESS}::test_data_loader_workers"),
        Clause("16 processes fill an empty cache, one is killed with -9", "nb 10128, nb 10434",
               f"{PROCESS}::test_16_processes_fill_one_cache_and_one_is_killed"
               f" {CACHE}::test_16_processes_race_and_some_are_killed"),
        Clause("a truncated, bit-flipped, empty or foreign cache entry is a miss and one warning",
               "nb 8359", f"{CACHE}::test_a_damaged_entry_is_a_miss_and_one_warning"
               " test_every_flipped_bit_is_noticed test_foreign_entry_and_foreign_folder"),
        Clause("a cache folder that is read-only or full", "",
               f"{CACHE}::test_read_only_folder test_full_disk"),
        Clause("100,000 calls leave memory and live tensors flat", "pt 174468",
               f"{PROCESS}::test_memory_stays_flat test_memory_of_training_stays_flat"),
        Clause("1,000 functions compiled and dropped", "jax 2072",
               f"{PROCESS}::test_thousand_functions_compiled_and_dropped"
               " test_dropped_function_is_freed"),
    ],
    "Errors": [
        Clause("bool(tensor) where it is refused", "", f"{ERRORS}::test_ambiguous_bool"),
        Clause("shapes that do not fit", "", f"{ERRORS}::test_shape_mismatch"),
        Clause("dtypes that do not fit", "", f"{ERRORS}::test_dtype_mismatch"),
        Clause("an index out of bounds raises and is never clamped", "jax 278",
               f"{ERRORS}::test_index_out_of_range test_write_out_of_range test_other_indices"),
        Clause("an unsupported op", "", f"{ERRORS}::test_unknown_op"),
        Clause("an error out of generated code names the user's line; the source is known", "",
               f"{ERRORS}::test_message_names_line test_generated_source_in_traceback"),
    ],
    "Lessons": [
        Clause("no fast-math unless it is asked for", "nb 8708, tvm 19546",
               "codegen/test_compiler.py::test_strict_unless_fast_math_is_asked_for"
               f" {NUMERICS}::test_no_unsound_algebra"),
        Clause("negative indices, Ellipsis, None and masks index as in torch", "jax 278",
               "eager/test_indexing.py::test_reading test_writing_a_number_and_a_tensor"
               " test_bad_indices_raise_reading_and_writing"),
        Clause("the kernel cache goes by content: source, processor, versions",
               "nb 8359, nb 8396, nb 10434",
               "codegen/test_compiler.py::test_same_source_is_the_same_kernel"
               " test_keys_hold_versions_processor_and_library"),
        Clause("a compiler's error says op and line and writes a reproducer", "",
               "codegen/test_compiler.py::test_faults_become_compile_errors_with_a_reproducer"
               " runtime/test_executable.py::test_faults_of_the_compiler_are_compile_errors"),
        Clause("loading a checkpoint runs no pickled code", "",
               "data/test_saving.py::test_a_pickle_is_refused_with_advice"),
        Clause("strings never reach generated source", "numexpr CVE",
               f"{STATE}::test_strings_that_look_like_code test_odd_names"),
        Clause("ratios are published with the rows that lose", "",
               "test_bench.py::test_ratios_mark_what_is_lost"),
    ],
}  # fmt: skip


def named_by(clause: Clause) -> list[tuple[str, str]]:
    """(file, test) of every test that a clause names."""
    found, file = [], ""
    for word in clause.tests.split():
        file, _, name = word.rpartition("::") if "::" in word else (file, "", word)
        found.append((file, name))
    return found
