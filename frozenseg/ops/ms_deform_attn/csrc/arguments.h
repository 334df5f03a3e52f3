// What the CPU and the CUDA operator share: their arguments, and where a sampling point lies.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace frozenseg {

// Half-precision values are accumulated in float; locations and weights come in this type.
template <typename scalar_t>
using real_of = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

struct Sizes {
  int64_t batch, cells, heads, channels, queries, levels, points;

  // From one cell of value to the next.
  C10_HOST_DEVICE int64_t stride() const {
    return heads * channels;
  }
  // A row is one image, query and head.
  C10_HOST_DEVICE int64_t rows() const {
    return batch * queries * heads;
  }
  // Where the first cell of the image and head of a row starts in value.
  C10_HOST_DEVICE int64_t origin(int64_t row) const {
    return row / (queries * heads) * cells * stride() + row % heads * channels;
  }
};

template <typename scalar_t>
struct Inputs {
  Sizes size;
  const scalar_t* value;
  const int64_t* shapes;
  const int64_t* starts;
  const real_of<scalar_t>* locations;
  const real_of<scalar_t>* weights;
};

template <typename scalar_t>
struct Gradients {
  const scalar_t* output;
  real_of<scalar_t>* value;
  real_of<scalar_t>* locations;
  real_of<scalar_t>* weights;
};

// The four cells around a point, -1 where they lie outside of the map, and their bilinear weights.
template <typename real>
struct Footprint {
  int cell[4];
  real weight[4];
  real right, below; // how far the point lies from the upper left centre, in cells
};

// Returns false where a point touches no cell (this is also the answer for NaN).
template <typename real>
C10_HOST_DEVICE C10_ALWAYS_INLINE bool find_footprint(
    const real* location, const int64_t* shape, Footprint<real>& at) {
  const int height = static_cast<int>(shape[0]), width = static_cast<int>(shape[1]);
  const real column = location[0] * width - real(0.5);
  const real row = location[1] * height - real(0.5);
  if (!(row > -1 && column > -1 && row < height && column < width)) {
    return false;
  }
  const real top = std::floor(row), left = std::floor(column);
  at.below = row - top;
  at.right = column - left;
  for (int k = 0; k < 4; ++k) {
    const int y = static_cast<int>(top) + k / 2, x = static_cast<int>(left) + k % 2;
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    at.cell[k] = inside ? y * width + x : -1;
    at.weight[k] = (k / 2 ? at.below : 1 - at.below) * (k % 2 ? at.right : 1 - at.right);
  }
  return true;
}

// Gradients of one sample for its attention weight and its location (x, y), from `dot`: the product of the
// gradient of the output with the value of each cell, zero for cells outside of the map.
template <typename real>
C10_HOST_DEVICE C10_ALWAYS_INLINE void sample_gradients(
    const Footprint<real>& at, const real* dot, real& by_weight, real& by_column, real& by_row) {
  by_weight = at.weight[0] * dot[0] + at.weight[1] * dot[1] + at.weight[2] * dot[2] + at.weight[3] * dot[3];
  by_column = (1 - at.below) * (dot[1] - dot[0]) + at.below * (dot[3] - dot[2]);
  by_row = (1 - at.right) * (dot[2] - dot[0]) + at.right * (dot[3] - dot[1]);
}

// The arguments of the operator, contiguous and of fitting sizes.
struct Arguments {
  at::Tensor value, shapes, starts, locations, weights;
  Sizes size;

  Arguments(
      const at::Tensor& value_,
      const at::Tensor& spatial_shapes,
      const at::Tensor& level_start,
      const at::Tensor& sampling_locations,
      const at::Tensor& attention_weights)
      : value(value_.contiguous()),
        shapes(spatial_shapes.contiguous()),
        starts(level_start.contiguous()),
        locations(sampling_locations.contiguous()),
        weights(attention_weights.contiguous()) {
    check_kinds();
    check_sizes();
  }

  template <typename scalar_t>
  Inputs<scalar_t> inputs() const {
    return {
        size,
        value.const_data_ptr<scalar_t>(),
        shapes.const_data_ptr<int64_t>(),
        starts.const_data_ptr<int64_t>(),
        locations.const_data_ptr<real_of<scalar_t>>(),
        weights.const_data_ptr<real_of<scalar_t>>()};
  }

  // The gradient of the output as the kernels read it.
  at::Tensor checked_gradient(const at::Tensor& grad_output) const {
    TORCH_CHECK_VALUE(
        grad_output.numel() == size.rows() * size.channels && grad_output.device() == value.device(),
        "grad_output must have the shape and the device of the output, got ", grad_output.sizes(), " on ",
        grad_output.device());
    return grad_output.to(value.scalar_type()).contiguous();
  }

 private:
  void check_kinds() const {
    for (const at::Tensor& other : {shapes, starts, locations, weights}) {
      TORCH_CHECK_VALUE(
          other.device() == value.device(), "all arguments must be on ", value.device(), ", one is on ",
          other.device());
    }
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
            starts.numel() == size.levels && size.cells <= std::numeric_limits<int>::max(),
        "the shapes of the arguments do not belong together");
  }
};

} // namespace frozenseg
