"""Dynamic quantisation of an exported graph: weights and activations of large layers have 8 bits.

Weights are quantised once, with one scale per output. Activations are quantised each time the graph runs, so no data
are needed to calibrate them. onnxruntime has a function for this, `quantize_dynamic`, but it turns convolutions into
`ConvInteger`, which takes two to three times as long as a convolution in fp32. Here, a convolution becomes a product
of matrices (im2col), which is faster than in fp32. The scales also avoid the saturation that the weights of
`quantize_dynamic` run into on processors without VNNI.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Smaller weights stay in fp32: they take no room, and the layers of the temporal network are sensitive to rounding.
SMALLEST = 2**14
# Convolutions with fewer channels or larger kernels stay in fp32, because copying their inputs takes longer than the
# product saves.
FEWEST_CHANNELS = 32
LARGEST_KERNEL = 9
# On x86 processors without VNNI, onnxruntime multiplies unsigned activations and signed weights in pairs, and adds
# each pair in 16 bits. The sum cannot overflow if the weights of a pair add up to at most 128: 255 * 128 < 2^15.
PAIR_LIMIT = 127.5  # before rounding, which can add 0.5 to each weight, so that the sum is at most 128


def quantise(source: Path, target: Path) -> None:
    """Quantises a graph.

    Args:
        source (`Path`): File of the graph.
        target (`Path`): File to write.
    """
    import onnx

    model = onnx.load(str(source))
    _Rewriter(model.graph).run()
    onnx.save(model, str(target))


def quantise_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantises a matrix with one scale per column, so that products with bytes do not overflow in 16 bits.

    Args:
        weight (`np.ndarray` of shape `(rows, columns)`): The matrix. Rows are summed over in the product.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Integers (rows, columns), int8, and scales (columns,), float32.
    """
    rows, columns = weight.shape
    pairs = np.concatenate([weight, np.zeros((rows % 2, columns), weight.dtype)]).reshape(-1, 2, columns)
    sums = np.maximum(np.maximum(pairs, 0).sum(1).max(0), np.maximum(-pairs, 0).sum(1).max(0))
    scale = np.maximum(np.abs(weight).max(0) / 127, sums / PAIR_LIMIT)
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


class _Rewriter:
    """Replaces the nodes of a graph that have large weights.

    Args:
        graph (`onnx.GraphProto`): The graph, which is changed.
    """

    def __init__(self, graph: Any):
        import onnx

        self.onnx, self.graph = onnx, graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.constants: dict[str, Any] = {}
        self.nodes: list[Any] = []

    def run(self) -> None:
        """Replaces the nodes, and removes the weights that are not used any more."""
        rewrite: dict[str, Callable[[Any], bool]] = {
            "MatMul": self.matmul,
            "Gemm": self.matmul,
            "Conv": self.convolution,
            "Gather": self.embedding,
        }
        for node in self.graph.node:
            if node.op_type not in rewrite or not rewrite[node.op_type](node):
                self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend([*kept, *self.constants.values()])

    def matmul(self, node: Any) -> bool:
        """Replaces a product with a constant matrix. Returns whether it did."""
        options = self.options(node)
        weight = self.weight(node.input[1])
        is_plain = not options.get("transA") and options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0
        if weight is None or weight.ndim != 2 or not is_plain:
            return False
        matrix = weight.T if options.get("transB") else weight
        bias = node.input[2] if len(node.input) > 2 else ""
        name = node.input[1] + ("_transposed" if options.get("transB") else "")
        self.product(self.bytes_of(node.input[0], node.output[0]), matrix, name, bias, node.output[0])
        return True

    def convolution(self, node: Any) -> bool:
        """Replaces a convolution by a product with the neighbourhood of each pixel. Returns whether it did."""
        options, weight = self.options(node), self.weight(node.input[1])
        if weight is None or weight.ndim != 4 or options.get("auto_pad", b"NOTSET") != b"NOTSET":
            return False
        channels, kernel = weight.shape[1], weight.shape[2:]
        is_dense = options.get("group", 1) == 1 and set(options.get("dilations", [1])) == {1}
        if not is_dense or channels < FEWEST_CHANNELS or kernel[0] * kernel[1] > LARGEST_KERNEL:
            return False
        output = node.output[0]
        pixels = self.add("Transpose", [node.input[0]], f"{output}_nhwc", perm=[0, 2, 3, 1])
        values, scale, zero = self.bytes_of(pixels, output)
        top, left, bottom, right = options.get("pads", [0, 0, 0, 0])
        if any((top, left, bottom, right)):
            widths = self.constant(f"{output}_pads", np.array([0, top, left, 0, 0, bottom, right, 0]))
            values = self.add("Pad", [values, widths, zero], f"{output}_padded")
        values = self.neighbourhoods(values, kernel, options.get("strides", [1, 1]), output)
        matrix = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
        bias = node.input[2] if len(node.input) > 2 else ""
        self.product((values, scale, zero), matrix, f"{node.input[1]}_columns", bias, f"{output}_pixels")
        self.add("Transpose", [f"{output}_pixels"], output, perm=[0, 3, 1, 2])
        return True

    def neighbourhoods(self, pixels: str, kernel: tuple[int, ...], strides: list[int], name: str) -> str:
        """Joins the pixels under a kernel: (N, H, W, C) -> (N, H', W', kernel height * kernel width * C)."""
        if set(kernel) == set(strides) == {1}:
            return pixels
        axes = self.constant("height_and_width", np.array([1, 2]))
        steps = self.constant(f"steps_{strides[0]}_{strides[1]}", np.array(strides))
        parts = []
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                start = self.constant(f"start_{row}_{column}", np.array([row, column]))
                left_out = np.array([kernel[0] - 1 - row, kernel[1] - 1 - column])
                end = self.constant(
                    f"end_{left_out[0]}_{left_out[1]}", np.where(left_out == 0, np.iinfo(np.int32).max, -left_out)
                )
                parts.append(self.add("Slice", [pixels, start, end, axes, steps], f"{name}_under_{row}_{column}"))
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, f"{name}_columns", axis=3)

    def embedding(self, node: Any) -> bool:
        """Stores a table of vectors in 8 bits, with one scale per vector. Returns whether it did."""
        weight = self.weight(node.input[0])
        if weight is None or weight.ndim != 2 or self.options(node).get("axis", 0) != 0:
            return False
        table, output = node.input[0], node.output[0]
        scale = np.abs(weight).max(1, keepdims=True) / 127
        scale = np.where(scale == 0, 1, scale).astype(np.float32)
        integers = self.constant(f"{table}_quantized", np.rint(weight / scale).astype(np.int8))
        rows = self.add("Gather", [integers, node.input[1]], f"{output}_quantized")
        scales = self.add("Gather", [self.constant(f"{table}_scale", scale), node.input[1]], f"{output}_scale")
        cast = self.add("Cast", [rows], f"{output}_cast", to=self.onnx.TensorProto.FLOAT)
        self.add("Mul", [cast, scales], output)
        return True

    def bytes_of(self, values: str, name: str) -> tuple[str, str, str]:
        """Quantises activations when the graph runs. Returns the names of the bytes, their scale and zero point."""
        outputs = (f"{name}_bytes", f"{name}_scale", f"{name}_zero")
        self.nodes.append(self.onnx.helper.make_node("DynamicQuantizeLinear", [values], list(outputs)))
        return outputs

    def product(self, values: tuple[str, str, str], matrix: np.ndarray, name: str, bias: str, output: str) -> None:
        """Multiplies bytes and a matrix. Runtimes merge these nodes into one."""
        integers, scale = quantise_columns(matrix)
        bytes_, bytes_scale, zero = values
        weight = self.constant(f"{name}_quantized", integers)
        no_shift = self.constant("signed_zero", np.array(0, np.int8))
        self.add("MatMulInteger", [bytes_, weight, zero, no_shift], f"{output}_sum")
        cast = self.add("Cast", [f"{output}_sum"], f"{output}_cast", to=self.onnx.TensorProto.FLOAT)
        scales = self.add("Mul", [bytes_scale, self.constant(f"{name}_scale", scale)], f"{output}_scales")
        self.add("Mul", [cast, scales], f"{output}_product" if bias else output)
        if bias:
            self.add("Add", [f"{output}_product", bias], output)

    def weight(self, name: str) -> np.ndarray | None:
        """Returns a large weight in fp32, or None if the name is that of something else."""
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_type != self.onnx.TensorProto.FLOAT:
            return None
        value = self.onnx.numpy_helper.to_array(tensor)
        return value if value.size >= SMALLEST else None

    def options(self, node: Any) -> dict[str, Any]:
        return {option.name: self.onnx.helper.get_attribute_value(option) for option in node.attribute}

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(value, name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **options: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], name=output, **options))
        return output
