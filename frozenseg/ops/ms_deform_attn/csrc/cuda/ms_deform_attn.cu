// Multi-scale deformable attention on CUDA. Arguments and meaning: ../../__init__.py and ../../reference.py.
//
// A "row" is one image, query and head. A group of lanes, at most a warp, works on one row: its lanes share the
// row's points and divide its channels, which are contiguous in memory, among themselves. In the backward pass a
// group adds up over channels with warp shuffles, so that gradients of locations and weights are written once;
// several rows may touch a cell, so gradients of value are added atomically, in float for half-precision values.

#include "../arguments.h"

#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <cstdint>
#include <tuple>

namespace {

using at::Tensor;
using namespace frozenseg;

constexpr int kThreads = 256;
constexpr int kVectorBytes = 16; // the widest load of one lane

template <typename scalar_t, int kWidth>
struct alignas(sizeof(scalar_t) * kWidth) Vector {
  scalar_t at[kWidth];
};

// A level that reaches beyond the cells of value would read foreign memory.
__device__ __forceinline__ void check_level(const Sizes& n, const int64_t* shape, int64_t start) {
  CUDA_KERNEL_ASSERT(
      start >= 0 && shape[0] >= 0 && shape[1] >= 0 && start + shape[0] * shape[1] <= n.cells);
}

// One thread per kWidth channels of a row.
template <typename scalar_t, int kWidth>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const Inputs<scalar_t> in, int64_t threads, scalar_t* __restrict__ output) {
  using real = real_of<scalar_t>;
  using Lane = Vector<scalar_t, kWidth>;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= threads) {
    return;
  }
  const Sizes& n = in.size;
  const int64_t lanes = n.channels / kWidth;
  const int64_t row = thread / lanes, channel = thread % lanes * kWidth;
  const scalar_t* origin = in.value + n.origin(row) + channel;

  real sum[kWidth] = {};
  int64_t point = row * n.levels * n.points;
  for (int64_t level = 0; level < n.levels; ++level) {
    const int64_t* shape = in.shapes + 2 * level;
    check_level(n, shape, in.starts[level]);
    const scalar_t* map = origin + in.starts[level] * n.stride();
    for (const int64_t last = point + n.points; point < last; ++point) {
      Footprint<real> at;
      if (!find_footprint(in.locations + 2 * point, shape, at)) {
        continue;
      }
      const real attention = in.weights[point];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (at.cell[k] < 0) {
          continue;
        }
        const Lane cell = *reinterpret_cast<const Lane*>(map + at.cell[k] * n.stride());
        const real weight = attention * at.weight[k];
#pragma unroll
        for (int c = 0; c < kWidth; ++c) {
          sum[c] += weight * static_cast<real>(cell.at[c]);
        }
      }
    }
  }
  Lane out;
#pragma unroll
  for (int c = 0; c < kWidth; ++c) {
    out.at[c] = static_cast<scalar_t>(sum[c]);
  }
  *reinterpret_cast<Lane*>(output + row * n.channels + channel) = out;
}

// Sum over the lanes of a group, valid in its first lane.
template <int kLanes, typename real>
__device__ __forceinline__ real sum_over_group(real x, unsigned group) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_down_sync(group, x, offset, kLanes);
  }
  return x;
}

// One group of kLanes lanes per row; a lane takes every kLanes-th channel, so a group reads neighbouring ones.
template <typename scalar_t, int kLanes>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const Inputs<scalar_t> in, int64_t rows, const Gradients<scalar_t> gradients) {
  using real = real_of<scalar_t>;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (row >= rows) { // whole groups leave
    return;
  }
  const int lane = threadIdx.x % kLanes;
  const unsigned group = (kLanes == 32 ? ~0u : (1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
  const Sizes& n = in.size;
  const scalar_t* grad_output = gradients.output + row * n.channels;

  int64_t point = row * n.levels * n.points;
  for (int64_t level = 0; level < n.levels; ++level) {
    const int64_t* shape = in.shapes + 2 * level;
    check_level(n, shape, in.starts[level]);
    const int64_t map = n.origin(row) + in.starts[level] * n.stride();
    for (const int64_t last = point + n.points; point < last; ++point) {
      real by_weight = 0, by_column = 0, by_row = 0;
      const real attention = in.weights[point];
      Footprint<real> at;
      if (find_footprint(in.locations + 2 * point, shape, at)) { // the same for the whole group
        for (int64_t c = lane; c < n.channels; c += kLanes) {
          const real grad = static_cast<real>(grad_output[c]);
          real dot[4] = {}; // of the gradient with each cell
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            if (at.cell[k] < 0) {
              continue;
            }
            const int64_t cell = map + at.cell[k] * n.stride() + c;
            dot[k] = grad * static_cast<real>(in.value[cell]);
            atomicAdd(gradients.value + cell, attention * at.weight[k] * grad);
          }
          real weight_part, column_part, row_part;
          sample_gradients(at, dot, weight_part, column_part, row_part);
          by_weight += weight_part;
          by_column += column_part;
          by_row += row_part;
        }
        by_weight = sum_over_group<kLanes>(by_weight, group);
        by_column = sum_over_group<kLanes>(by_column, group);
        by_row = sum_over_group<kLanes>(by_row, group);
      }
      if (lane == 0) {
        gradients.weights[point] = by_weight;
        gradients.locations[2 * point] = attention * by_column * shape[1];
        gradients.locations[2 * point + 1] = attention * by_row * shape[0];
      }
    }
  }
}

int blocks(int64_t threads) {
  return static_cast<int>((threads + kThreads - 1) / kThreads);
}

template <typename scalar_t, int kWidth>
void launch_forward(const Inputs<scalar_t>& in, scalar_t* output) {
  const int64_t threads = in.size.rows() * (in.size.channels / kWidth);
  forward_kernel<scalar_t, kWidth>
      <<<blocks(threads), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(in, threads, output);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Takes the widest load that divides the channels of a head and to which value is aligned.
template <typename scalar_t, int kWidth = kVectorBytes / sizeof(scalar_t)>
void launch_widest_forward(const Inputs<scalar_t>& in, scalar_t* output) {
  if constexpr (kWidth > 1) {
    const bool aligned = reinterpret_cast<uintptr_t>(in.value) % (kWidth * sizeof(scalar_t)) == 0;
    if (!aligned || in.size.channels % kWidth != 0) {
      return launch_widest_forward<scalar_t, kWidth / 2>(in, output);
    }
  }
  launch_forward<scalar_t, kWidth>(in, output);
}

template <typename scalar_t, int kLanes>
void launch_backward(const Inputs<scalar_t>& in, const Gradients<scalar_t>& gradients) {
  const int64_t rows = in.size.rows();
  backward_kernel<scalar_t, kLanes>
      <<<blocks(rows * kLanes), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(in, rows, gradients);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Takes the smallest group that has a lane per channel, or a whole warp.
template <typename scalar_t, int kLanes = 4>
void launch_fitting_backward(const Inputs<scalar_t>& in, const Gradients<scalar_t>& gradients) {
  if constexpr (kLanes < 32) {
    if (in.size.channels > kLanes) {
      return launch_fitting_backward<scalar_t, kLanes * 2>(in, gradients);
    }
  }
  launch_backward<scalar_t, kLanes>(in, gradients);
}

Tensor forward(
    const Tensor& value,
    const Tensor& spatial_shapes,
    const Tensor& level_start,
    const Tensor& sampling_locations,
    const Tensor& attention_weights) {
  const c10::cuda::CUDAGuard device(value.device());
  const Arguments arguments(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  const Sizes& n = arguments.size;
  Tensor output = at::empty({n.batch, n.queries, n.stride()}, value.options());
  if (output.numel() == 0) {
    return output;
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn", [&] {
    launch_widest_forward<scalar_t>(arguments.inputs<scalar_t>(), output.mutable_data_ptr<scalar_t>());
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
  at::globalContext().alertNotDeterministic("ms_deform_attn_backward on CUDA");
  const c10::cuda::CUDAGuard device(value.device());
  const Arguments arguments(value, spatial_shapes, level_start, sampling_locations, attention_weights);
  const Tensor grad = arguments.checked_gradient(grad_output);
  Tensor grad_value = at::zeros(value.sizes(), arguments.locations.options());
  Tensor grad_locations = at::empty_like(arguments.locations);
  Tensor grad_weights = at::empty_like(arguments.weights);
  if (arguments.weights.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_backward", [&] {
      using real = real_of<scalar_t>;
      const Gradients<scalar_t> gradients{
          grad.const_data_ptr<scalar_t>(),
          grad_value.mutable_data_ptr<real>(),
          grad_locations.mutable_data_ptr<real>(),
          grad_weights.mutable_data_ptr<real>()};
      launch_fitting_backward(arguments.inputs<scalar_t>(), gradients);
    });
  }
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

} // namespace

TORCH_LIBRARY_IMPL(frozenseg, CUDA, library) {
  library.impl("ms_deform_attn", &forward);
  library.impl("ms_deform_attn_backward", &backward);
}
