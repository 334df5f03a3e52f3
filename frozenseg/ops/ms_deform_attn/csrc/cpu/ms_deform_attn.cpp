// Multi-scale deformable attention on CPU. Arguments and meaning: ../../__init__.py and ../../reference.py.
//
// The channels of one head are contiguous, so every inner loop runs over channels. The forward pass is parallel
// over (image, query); the backward pass over (image, head), whose gradients of value never overlap, so
// nothing is atomic. Within a task neighbouring heads go together, because they are neighbours in memory.

#include "../arguments.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
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
using namespace frozenseg;

constexpr int kAnyNumber = 0;

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

// From `begin` to `end` count images times queries.
template <typename scalar_t, int kChannels>
FOR_EACH_VECTOR_UNIT void forward_rows(
    const Inputs<scalar_t>& in, int64_t begin, int64_t end, scalar_t* output) {
  using real = real_of<scalar_t>;
  const Sizes& n = in.size;
  const int64_t channels = kChannels == kAnyNumber ? n.channels : kChannels;
  const int64_t stride = n.heads * channels;
  Row<real, kChannels> sum(channels);
  Footprint<real> at;
  for (int64_t row = begin * n.heads; row < end * n.heads; ++row) {
    const scalar_t* origin = in.value + n.origin(row);
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

// Everything that one row contributes. `grad` is scratch.
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
  for (int64_t c = 0; c < channels; ++c) {
    grad.at[c] = static_cast<real>(gradients.output[row * channels + c]);
  }
  int64_t point = row * n.levels * n.points;
  for (int64_t level = 0; level < n.levels; ++level) {
    const int64_t map = n.origin(row) + in.starts[level] * stride;
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
      real by_column, by_row;
      sample_gradients(at, dot, gradients.weights[point], by_column, by_row);
      by_location[0] = attention * by_column * shape[1];
      by_location[1] = attention * by_row * shape[0];
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

void check_levels(const Arguments& arguments) {
  const int64_t* shape = arguments.shapes.const_data_ptr<int64_t>();
  const int64_t* start = arguments.starts.const_data_ptr<int64_t>();
  for (int64_t level = 0; level < arguments.size.levels; ++level, shape += 2, ++start) {
    TORCH_CHECK_VALUE(
        shape[0] >= 0 && shape[1] >= 0 && *start >= 0 && *start + shape[0] * shape[1] <= arguments.size.cells,
        "level ", level, " has ", shape[0], " x ", shape[1], " cells from cell ", *start,
        ", more than the ", arguments.size.cells, " cells of value");
  }
}

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
  check_levels(arguments);
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
  check_levels(arguments);
  const Sizes& n = arguments.size;
  const Tensor grad = arguments.checked_gradient(grad_output);
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
