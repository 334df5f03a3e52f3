// Multi-scale deformable attention on CPU. Arguments and meaning: ../../__init__.py and ../../reference.py.
//
// The channels of one head are contiguous, so every inner loop runs over channels. The forward pass is parallel
// over (image, query); the backward pass over (image, head), whose gradients of value never overlap, so
// nothing is atomic.

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

template <typename scalar_t>
FOR_EACH_VECTOR_UNIT void forward_rows(
    const Inputs<scalar_t>& in, int64_t begin, int64_t end, scalar_t* output) {
  using real = real_of<scalar_t>;
  const Sizes& n = in.size;
  const int64_t channels = n.channels, stride = n.heads * channels;
  std::vector<real> sum(channels);
  Footprint<real> at;
  for (int64_t row = begin; row < end; ++row) { // image and query
    const scalar_t* image = in.value + row / n.queries * n.cells * stride;
    for (int64_t head = 0; head < n.heads; ++head) {
      std::fill(sum.begin(), sum.end(), real(0));
      real* s = sum.data();
      int64_t point = (row * n.heads + head) * n.levels * n.points;
      for (int64_t level = 0; level < n.levels; ++level) {
        const scalar_t* map = image + in.starts[level] * stride + head * channels;
        for (const int64_t last = point + n.points; point < last; ++point) {
          if (!find_footprint(in.locations + 2 * point, in.shapes + 2 * level, at)) {
            continue;
          }
          for (int k = 0; k < 4; ++k) {
            if (at.cell[k] < 0) {
              continue;
            }
            const real weight = in.weights[point] * at.weight[k];
            const scalar_t* v = map + at.cell[k] * stride;
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) {
              s[c] += weight * static_cast<real>(v[c]);
            }
          }
        }
      }
      scalar_t* out = output + row * stride + head * channels;
      for (int64_t c = 0; c < channels; ++c) {
        out[c] = static_cast<scalar_t>(s[c]);
      }
    }
  }
}

template <typename scalar_t>
FOR_EACH_VECTOR_UNIT void backward_heads(
    const Inputs<scalar_t>& in,
    int64_t begin,
    int64_t end,
    const scalar_t* grad_output,
    real_of<scalar_t>* grad_value,
    real_of<scalar_t>* grad_locations,
    real_of<scalar_t>* grad_weights) {
  using real = real_of<scalar_t>;
  const Sizes& n = in.size;
  const int64_t channels = n.channels, stride = n.heads * channels;
  std::vector<real> grad(channels);
  Footprint<real> at;
  for (int64_t row = begin; row < end; ++row) { // image and head
    const int64_t image = row / n.heads, head = row % n.heads;
    const int64_t origin = image * n.cells * stride + head * channels;
    for (int64_t query = 0; query < n.queries; ++query) {
      const int64_t output_row = image * n.queries + query;
      const scalar_t* out = grad_output + output_row * stride + head * channels;
      real* g = grad.data();
      for (int64_t c = 0; c < channels; ++c) {
        g[c] = static_cast<real>(out[c]);
      }
      int64_t point = (output_row * n.heads + head) * n.levels * n.points;
      for (int64_t level = 0; level < n.levels; ++level) {
        const int64_t map = origin + in.starts[level] * stride;
        const int64_t* shape = in.shapes + 2 * level;
        for (const int64_t last = point + n.points; point < last; ++point) {
          if (!find_footprint(in.locations + 2 * point, shape, at)) {
            grad_weights[point] = grad_locations[2 * point] = grad_locations[2 * point + 1] = 0;
            continue;
          }
          const real attention = in.weights[point];
          real dot[4] = {0, 0, 0, 0}; // of the gradient with each cell
          for (int k = 0; k < 4; ++k) {
            if (at.cell[k] < 0) {
              continue;
            }
            const real weight = attention * at.weight[k];
            const scalar_t* v = in.value + map + at.cell[k] * stride;
            real* gv = grad_value + map + at.cell[k] * stride;
            real sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < channels; ++c) {
              gv[c] += weight * g[c];
              sum += g[c] * static_cast<real>(v[c]);
            }
            dot[k] = sum;
          }
          const real by_column = (1 - at.below) * (dot[1] - dot[0]) + at.below * (dot[3] - dot[2]);
          const real by_row = (1 - at.right) * (dot[2] - dot[0]) + at.right * (dot[3] - dot[1]);
          grad_locations[2 * point] = attention * by_column * shape[1];
          grad_locations[2 * point + 1] = attention * by_row * shape[0];
          grad_weights[point] = at.weight[0] * dot[0] + at.weight[1] * dot[1] +
              at.weight[2] * dot[2] + at.weight[3] * dot[3];
        }
      }
    }
  }
}

// Checks what would read or write out of bounds: everything else is checked in Python.
Sizes sizes_of(
    const Tensor& value,
    const Tensor& shapes,
    const Tensor& starts,
    const Tensor& locations,
    const Tensor& weights) {
  TORCH_CHECK_VALUE(value.dim() == 4, "value must be (B, T, M, C), got ", value.sizes());
  TORCH_CHECK_VALUE(weights.dim() == 5, "weights must be (B, Q, M, L, P), got ", weights.sizes());
  const Sizes n{
      value.size(0), value.size(1), value.size(2), value.size(3), weights.size(1), weights.size(3), weights.size(4)};
  TORCH_CHECK_VALUE(
      weights.size(0) == n.batch && weights.size(2) == n.heads && weights.numel() * 2 == locations.numel() &&
          shapes.numel() == 2 * n.levels && starts.numel() == n.levels,
      "the shapes of the arguments do not belong together");
  TORCH_CHECK_TYPE(
      shapes.scalar_type() == at::kLong && starts.scalar_type() == at::kLong,
      "spatial_shapes and level_start must be int64");
  const auto real = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_TYPE(
      locations.scalar_type() == real && weights.scalar_type() == real,
      "locations and weights must be ", real, " where value is ", value.scalar_type());
  const Tensor shapes_ = shapes.contiguous(), starts_ = starts.contiguous();
  const int64_t* shape = shapes_.const_data_ptr<int64_t>();
  const int64_t* start = starts_.const_data_ptr<int64_t>();
  for (int64_t level = 0; level < n.levels; ++level, shape += 2, ++start) {
    TORCH_CHECK_VALUE(
        shape[0] >= 0 && shape[1] >= 0 && *start >= 0 && *start + shape[0] * shape[1] <= n.cells,
        "level ", level, " of ", shape[0], " x ", shape[1], " cells from cell ", *start,
        " does not fit into the ", n.cells, " cells of value");
  }
  return n;
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
  const Sizes n = sizes_of(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  const Tensor v = value.contiguous(), shapes = spatial_shapes.contiguous(), starts = level_start.contiguous(),
               locations = sampling_locations.contiguous(), weights = attention_weights.contiguous();
  Tensor output = at::zeros({n.batch, n.queries, n.heads * n.channels}, value.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn", [&] {
    using real = real_of<scalar_t>;
    const Inputs<scalar_t> in{
        n,
        v.const_data_ptr<scalar_t>(),
        shapes.const_data_ptr<int64_t>(),
        starts.const_data_ptr<int64_t>(),
        locations.const_data_ptr<real>(),
        weights.const_data_ptr<real>()};
    scalar_t* out = output.mutable_data_ptr<scalar_t>();
    const int64_t work = 4 * n.heads * n.levels * n.points * n.channels;
    at::parallel_for(0, n.batch * n.queries, grain_size(work), [&](int64_t begin, int64_t end) {
      forward_rows(in, begin, end, out);
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
  const Sizes n = sizes_of(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  TORCH_CHECK_VALUE(
      grad_output.numel() == n.batch * n.queries * n.heads * n.channels, "grad_output must have the output's shape");
  const Tensor grad = grad_output.to(value.scalar_type()).contiguous(), v = value.contiguous(),
               shapes = spatial_shapes.contiguous(), starts = level_start.contiguous(),
               locations = sampling_locations.contiguous(), weights = attention_weights.contiguous();
  Tensor grad_value = at::zeros(v.sizes(), locations.options());
  Tensor grad_locations = at::empty_like(locations);
  Tensor grad_weights = at::empty_like(weights);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_backward", [&] {
    using real = real_of<scalar_t>;
    const Inputs<scalar_t> in{
        n,
        v.const_data_ptr<scalar_t>(),
        shapes.const_data_ptr<int64_t>(),
        starts.const_data_ptr<int64_t>(),
        locations.const_data_ptr<real>(),
        weights.const_data_ptr<real>()};
    const scalar_t* grad_out = grad.const_data_ptr<scalar_t>();
    real* by_value = grad_value.mutable_data_ptr<real>();
    real* by_locations = grad_locations.mutable_data_ptr<real>();
    real* by_weights = grad_weights.mutable_data_ptr<real>();
    const int64_t work = 8 * n.queries * n.levels * n.points * n.channels;
    at::parallel_for(0, n.batch * n.heads, grain_size(work), [&](int64_t begin, int64_t end) {
      backward_heads(in, begin, end, grad_out, by_value, by_locations, by_weights);
    });
  });
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

} // namespace

TORCH_LIBRARY_IMPL(frozenseg, CPU, library) {
  library.impl("ms_deform_attn", &forward);
  library.impl("ms_deform_attn_backward", &backward);
}
