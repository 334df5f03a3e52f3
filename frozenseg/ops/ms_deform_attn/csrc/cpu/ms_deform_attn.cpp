// Multi-scale deformable attention on CPU. Arguments and meaning: ../../__init__.py and ../../reference.py.
//
// The channels of one head are contiguous, so every inner loop runs over channels. The forward pass is parallel
// over (image, query); the backward pass over (image, head), whose gradients of value never overlap, so
// nothing is atomic. Within a task neighbouring heads go together, because they are neighbours in memory.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <type_traits>
#include <vector>

// One copy of a function per generation of x86 vector units, chosen when the library is loaded.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_VECTOR_UNIT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define INLINE inline __attribute__((always_inline))
#else
#define FOR_EACH_VECTOR_UNIT
#define INLINE inline
#endif

namespace {

using at::Tensor;

constexpr int kAnyNumber = 0;

// Half-precision values are accumulated in float; locations and weights come in this type.
template <typename scalar_t>
using real_of = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

struct Sizes {
  int64_t batch, cells, heads, channels, queries, levels, points;
};

template <typename scalar_t>
struct Inputs {
  using real = real_of<scalar_t>;
  Sizes size;
  const scalar_t* value;
  const int64_t* shapes;
  const int64_t* starts;
  const real* locations;
  const real* weights;
};

// The four cells around a point, -1 where they lie outside of the map, and their bilinear weights.
template <typename real>
struct Footprint {
  int64_t cell[4];
  real weight[4];
  real right, below; // how far the point lies from the upper left centre, in cells
};

// Returns false where a point touches no cell (this is also the answer for NaN).
template <typename real>
INLINE bool find_footprint(const real* location, const int64_t* shape, Footprint<real>& at) {
  const int64_t height = shape[0], width = shape[1];
  const real column = location[0] * width - real(0.5);
  const real row = location[1] * height - real(0.5);
  if (!(row > -1 && column > -1 && row < height && column < width)) {
    return false;
  }
  const real top = std::floor(row), left = std::floor(column);
  at.below = row - top;
  at.right = column - left;
  for (int k = 0; k < 4; ++k) {
    const int64_t y = static_cast<int64_t>(top) + k / 2, x = static_cast<int64_t>(left) + k % 2;
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    at.cell[k] = inside ? y * width + x : -1;
    at.weight[k] = (k / 2 ? at.below : 1 - at.below) * (k % 2 ? at.right : 1 - at.right);
  }
  return true;
}

// One number per channel of a head; a number of channels known when compiling stays in registers.
template <typename real, int kChannels>
struct Row {
  explicit Row(int64_t) {}
  real at[kChannels];
};
template <typename real>
struct Row<real, kAnyNumber> {
  explicit Row(int64_t channels) : storage(channels), at(storage.data()) {}
  std::vector<real> storage;
  real* at;
};

// Adds one sample, times its attention weight, to the sum of a head. `map`: the head's first cell of the level.
template <typename scalar_t, typename real>
INLINE void add_sample(
    const scalar_t* map, int64_t stride, int64_t channels, const Footprint<real>& at, real attention, real* sum) {
  for (int k = 0; k < 4; ++k) {
    if (at.cell[k] < 0) {
      continue;
    }
    const real weight = attention * at.weight[k];
    const scalar_t* cell = map + at.cell[k] * stride;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] += weight * static_cast<real>(cell[c]);
    }
  }
}

// Spreads a head's gradient over the cells of one sample; `dot` receives its product with each cell's value.
template <typename scalar_t, typename real>
INLINE void spread_gradient(
    const scalar_t* map,
    real* grad_map,
    int64_t stride,
    int64_t channels,
    const Footprint<real>& at,
    real attention,
    const real* grad,
    real* dot) {
  for (int k = 0; k < 4; ++k) {
    dot[k] = 0;
    if (at.cell[k] < 0) {
      continue;
    }
    const real weight = attention * at.weight[k];
    const scalar_t* cell = map + at.cell[k] * stride;
    real* grad_cell = grad_map + at.cell[k] * stride;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; ++c) {
      grad_cell[c] += weight * grad[c];
      sum += grad[c] * static_cast<real>(cell[c]);
    }
    dot[k] = sum;
  }
}

template <typename scalar_t, int kChannels>
FOR_EACH_VECTOR_UNIT void forward_rows(
    const Inputs<scalar_t>& in, int64_t begin, int64_t end, scalar_t* output) {
  using real = real_of<scalar_t>;
  const Sizes& n = in.size;
  const int64_t channels = kChannels == kAnyNumber ? n.channels : kChannels;
  const int64_t stride = n.heads * channels; // from one cell to the next
  Row<real, kChannels> sum(channels);
  Footprint<real> at;
  for (int64_t row = begin * n.heads; row < end * n.heads; ++row) { // image, query and head
    const int64_t image = row / (n.queries * n.heads), head = row % n.heads;
    const scalar_t* origin = in.value + image * n.cells * stride + head * channels;
    std::fill_n(sum.at, channels, real(0));
    int64_t point = row * n.levels * n.points;
    for (int64_t level = 0; level < n.levels; ++level) {
      const scalar_t* map = origin + in.starts[level] * stride;
      for (const int64_t last = point + n.points; point < last; ++point) {
        if (find_footprint(in.locations + 2 * point, in.shapes + 2 * level, at)) {
          add_sample(map, stride, channels, at, in.weights[point], sum.at);
        }
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      output[row * channels + c] = static_cast<scalar_t>(sum.at[c]);
    }
  }
}

template <typename scalar_t>
struct Gradients {
  using real = real_of<scalar_t>;
  const scalar_t* output;
  real* value;
  real* locations;
  real* weights;
};

// Everything that one image, query and head contributes. `row` counts them.
template <typename scalar_t, int kChannels>
INLINE void backward_row(
    const Inputs<scalar_t>& in,
    const Gradients<scalar_t>& gradients,
    int64_t row,
    Row<real_of<scalar_t>, kChannels>& grad) {
  using real = real_of<scalar_t>;
  const Sizes& n = in.size;
  const int64_t channels = kChannels == kAnyNumber ? n.channels : kChannels;
  const int64_t stride = n.heads * channels;
  const int64_t image = row / (n.queries * n.heads), head = row % n.heads;
  const int64_t origin = image * n.cells * stride + head * channels;
  for (int64_t c = 0; c < channels; ++c) {
    grad.at[c] = static_cast<real>(gradients.output[row * channels + c]);
  }
  int64_t point = row * n.levels * n.points;
  for (int64_t level = 0; level < n.levels; ++level) {
    const int64_t map = origin + in.starts[level] * stride;
    const int64_t* shape = in.shapes + 2 * level;
    for (const int64_t last = point + n.points; point < last; ++point) {
      real* by_location = gradients.locations + 2 * point;
      Footprint<real> at;
      if (!find_footprint(in.locations + 2 * point, shape, at)) {
        gradients.weights[point] = by_location[0] = by_location[1] = 0;
        continue;
      }
      const real attention = in.weights[point];
      real dot[4];
      spread_gradient(
          in.value + map, gradients.value + map, stride, channels, at, attention, grad.at, dot);
      const real by_column = (1 - at.below) * (dot[1] - dot[0]) + at.below * (dot[3] - dot[2]);
      const real by_row = (1 - at.right) * (dot[2] - dot[0]) + at.right * (dot[3] - dot[1]);
      by_location[0] = attention * by_column * shape[1];
      by_location[1] = attention * by_row * shape[0];
      gradients.weights[point] = at.weight[0] * dot[0] + at.weight[1] * dot[1] +
          at.weight[2] * dot[2] + at.weight[3] * dot[3];
    }
  }
}

// From `begin` to `end` count images times heads.
template <typename scalar_t, int kChannels>
FOR_EACH_VECTOR_UNIT void backward_heads(
    const Inputs<scalar_t>& in, int64_t begin, int64_t end, const Gradients<scalar_t>& gradients) {
  const Sizes& n = in.size;
  Row<real_of<scalar_t>, kChannels> grad(n.channels);
  for (int64_t image = begin / n.heads; image * n.heads < end; ++image) {
    const int64_t first_head = std::max<int64_t>(begin - image * n.heads, 0);
    const int64_t last_head = std::min(end - image * n.heads, n.heads);
    for (int64_t query = image * n.queries; query < (image + 1) * n.queries; ++query) {
      for (int64_t head = first_head; head < last_head; ++head) {
        backward_row<scalar_t, kChannels>(in, gradients, query * n.heads + head, grad);
      }
    }
  }
}

// The arguments of the operator, contiguous, and checked for what would read or write out of bounds.
struct Arguments {
  Tensor value, shapes, starts, locations, weights;
  Sizes size;

  Arguments(
      const Tensor& value_,
      const Tensor& spatial_shapes,
      const Tensor& level_start,
      const Tensor& sampling_locations,
      const Tensor& attention_weights)
      : value(value_.contiguous()),
        shapes(spatial_shapes.contiguous()),
        starts(level_start.contiguous()),
        locations(sampling_locations.contiguous()),
        weights(attention_weights.contiguous()) {
    check_types();
    check_sizes();
    check_levels();
  }

  template <typename scalar_t>
  Inputs<scalar_t> inputs() const {
    using real = real_of<scalar_t>;
    return {
        size,
        value.const_data_ptr<scalar_t>(),
        shapes.const_data_ptr<int64_t>(),
        starts.const_data_ptr<int64_t>(),
        locations.const_data_ptr<real>(),
        weights.const_data_ptr<real>()};
  }

 private:
  void check_types() const {
    const auto real = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    TORCH_CHECK_TYPE(
        locations.scalar_type() == real && weights.scalar_type() == real,
        "sampling_locations and attention_weights must be ", real, " where value is ", value.scalar_type());
    TORCH_CHECK_TYPE(
        shapes.scalar_type() == at::kLong && starts.scalar_type() == at::kLong,
        "spatial_shapes and level_start must be int64");
  }

  void check_sizes() {
    TORCH_CHECK_VALUE(
        value.dim() == 4 && weights.dim() == 5,
        "value must be (B, T, M, C) and attention_weights (B, Q, M, L, P), got ", value.sizes(), " and ",
        weights.sizes());
    size = {
        value.size(0), value.size(1), value.size(2), value.size(3),
        weights.size(1), weights.size(3), weights.size(4)};
    TORCH_CHECK_VALUE(
        weights.size(0) == size.batch && weights.size(2) == size.heads &&
            locations.numel() == 2 * weights.numel() && shapes.numel() == 2 * size.levels &&
            starts.numel() == size.levels,
        "the shapes of the arguments do not belong together");
  }

  void check_levels() const {
    const int64_t* shape = shapes.const_data_ptr<int64_t>();
    const int64_t* start = starts.const_data_ptr<int64_t>();
    for (int64_t level = 0; level < size.levels; ++level, shape += 2, ++start) {
      TORCH_CHECK_VALUE(
          shape[0] >= 0 && shape[1] >= 0 && *start >= 0 && *start + shape[0] * shape[1] <= size.cells,
          "level ", level, " has ", shape[0], " x ", shape[1], " cells from cell ", *start,
          ", more than the ", size.cells, " cells of value");
    }
  }
};

// Calls `function` with the number of channels as a constant where it is a usual one.
template <typename Function>
void with_channels(int64_t channels, const Function& function) {
  switch (channels) {
    case 8: // the shapes world
      return function(std::integral_constant<int, 8>{});
    case 32: // FrozenSeg
      return function(std::integral_constant<int, 32>{});
    default:
      return function(std::integral_constant<int, kAnyNumber>{});
  }
}

// Rows per task: a task of fewer multiplications is not worth starting a thread for.
int64_t grain_size(int64_t multiplications_per_row) {
  return 32768 / std::max<int64_t>(1, multiplications_per_row) + 1;
}

Tensor forward(
    const Tensor& value,
    const Tensor& spatial_shapes,
    const Tensor& level_start,
    const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const Arguments arguments(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  const Sizes& n = arguments.size;
  Tensor output = at::zeros({n.batch, n.queries, n.heads * n.channels}, value.options());
  const int64_t work = 4 * n.heads * n.levels * n.points * n.channels;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn", [&] {
    const auto in = arguments.inputs<scalar_t>();
    scalar_t* out = output.mutable_data_ptr<scalar_t>();
    with_channels(n.channels, [&](auto channels) {
      at::parallel_for(0, n.batch * n.queries, grain_size(work), [&](int64_t begin, int64_t end) {
        forward_rows<scalar_t, channels()>(in, begin, end, out);
      });
    });
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad_output,
    const Tensor& value,
    const Tensor& spatial_shapes,
    const Tensor& level_start,
    const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const Arguments arguments(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  const Sizes& n = arguments.size;
  TORCH_CHECK_VALUE(
      grad_output.numel() == n.batch * n.queries * n.heads * n.channels,
      "grad_output must have the shape of the output, got ", grad_output.sizes());
  const Tensor grad = grad_output.to(value.scalar_type()).contiguous();
  Tensor grad_value = at::zeros(value.sizes(), arguments.locations.options());
  Tensor grad_locations = at::empty_like(arguments.locations);
  Tensor grad_weights = at::empty_like(arguments.weights);
  const int64_t work = 8 * n.queries * n.levels * n.points * n.channels;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_backward", [&] {
    using real = real_of<scalar_t>;
    const auto in = arguments.inputs<scalar_t>();
    const Gradients<scalar_t> gradients{
        grad.const_data_ptr<scalar_t>(),
        grad_value.mutable_data_ptr<real>(),
        grad_locations.mutable_data_ptr<real>(),
        grad_weights.mutable_data_ptr<real>()};
    with_channels(n.channels, [&](auto channels) {
      at::parallel_for(0, n.batch * n.heads, grain_size(work), [&](int64_t begin, int64_t end) {
        backward_heads<scalar_t, channels()>(in, begin, end, gradients);
      });
    });
  });
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

} // namespace

TORCH_LIBRARY_IMPL(frozenseg, CPU, library) {
  library.impl("ms_deform_attn", &forward);
  library.impl("ms_deform_attn_backward", &backward);
}
