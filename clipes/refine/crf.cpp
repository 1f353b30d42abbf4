// Mean-field inference of the fully connected CRF on one core: the arithmetic of clipes/refine/lattice.py and crf.py.
// Plain C++14 without a library, called through ctypes; nothing here knows Python.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
EXPORT void* PyInit__crf() { return nullptr; }  // setuptools tells the linker that there is one
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int kLanes = 16;  // pixels handled together, so that the compiler can use vector instructions
constexpr float kClip = 1e-5f;
constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding and taking it away rounds to whole numbers, ties to even
constexpr std::uint64_t kEmpty = std::numeric_limits<std::uint64_t>::max();

inline void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#else
  (void)address;
#endif
}

// Vertex numbers by key, in the order in which they are first asked for.
class Table {
 public:
  Table() { resize(12); }

  std::int32_t insert(std::uint64_t key) {
    std::size_t at = home(key);
    while (slots_[at].key != key) {
      if (slots_[at].key == kEmpty) {
        if (keys_.size() >= std::size_t{1} << 30) throw std::bad_alloc();
        const auto number = static_cast<std::int32_t>(keys_.size());
        slots_[at] = {key, number};
        keys_.push_back(key);
        if (5 * keys_.size() > 3 * slots_.size()) resize(bits_ + 1);
        return number;
      }
      at = (at + 1) & mask_;
    }
    return slots_[at].number;
  }

  std::int32_t find(std::uint64_t key) const {
    std::size_t at = home(key);
    while (slots_[at].key != key) {
      if (slots_[at].key == kEmpty) return -1;
      at = (at + 1) & mask_;
    }
    return slots_[at].number;
  }

  void expect(std::uint64_t key) const { prefetch(&slots_[home(key)]); }

  const std::vector<std::uint64_t>& keys() const { return keys_; }

 private:
  struct Slot {
    std::uint64_t key;
    std::int32_t number;
  };

  std::size_t home(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15ull) >> (64 - bits_); }

  void resize(int bits) {
    bits_ = bits;
    mask_ = (std::size_t{1} << bits) - 1;
    slots_.assign(mask_ + 1, {kEmpty, 0});
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (i + 16 < keys_.size()) expect(keys_[i + 16]);
      std::size_t at = home(keys_[i]);
      while (slots_[at].key != kEmpty) at = (at + 1) & mask_;
      slots_[at] = {keys_[i], static_cast<std::int32_t>(i)};
    }
  }

  int bits_ = 0;
  std::size_t mask_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::uint64_t> keys_;
};

struct Lattice {
  int corners = 0;                        // D + 1
  std::size_t points = 0, vertices = 0;
  std::vector<std::int32_t> corner;       // points x corners
  std::vector<float> weight;              // points x corners, barycentric times the point's normalisation
  std::vector<std::int32_t> neighbour;    // corners x vertices x 2; the number of vertices where there is none
  std::vector<float> ones;                // points: the normalised kernel applied to a map of ones
};

// The key of a corner is a number whose digits are its first D coordinates; each digit has room for a step either way.
template <int D>
struct Keys {
  std::array<std::int64_t, D> lowest, stride;
  std::array<std::int64_t, D + 1> step;
  std::int64_t all = 0;  // a step of one along every coordinate

  Keys(const std::array<float, D>& scale, const std::array<float, D>& reach) {
    std::int64_t product = 1;
    for (int i = D - 1; i >= 0; --i) {  // coordinate i is the sum of the features from i on, less i times the one before
      double high = 0, low = 0;
      for (int j = i; j < D; ++j) high += double(scale[j]) * reach[j];
      if (i > 0) low = -i * double(scale[i - 1]) * reach[i - 1];
      if (!(high - low < 1 << 21)) throw std::range_error("coordinates");  // see `fits` in clipes/refine/lattice.py
      lowest[i] = static_cast<std::int64_t>(std::floor(low)) - 3 * (D + 1);
      const std::int64_t base = static_cast<std::int64_t>(std::ceil(high)) + 3 * (D + 1) - lowest[i];
      stride[i] = product;
      if (base > std::numeric_limits<std::int64_t>::max() / product) throw std::range_error("keys");
      product *= base;
    }
    for (int i = 0; i < D; ++i) all += stride[i];
    for (int i = 0; i < D; ++i) step[i] = (D + 1) * stride[i] - all;
    step[D] = -all;
  }
};

// The simplices around kLanes points: keys of their corners, colour by colour, and barycentric coordinates.
template <int D>
void simplices(const float (&feature)[D][kLanes], const std::array<float, D>& scale, const Keys<D>& keys,
               std::int64_t (&corner)[kLanes][D + 1], float (&weight)[D + 1][kLanes]) {
  float elevated[D + 1][kLanes], remainder[D + 1][kLanes], total[kLanes] = {}, sum[kLanes] = {};
  std::int32_t rank[D + 1][kLanes];
  for (int j = D; j > 0; --j)
    for (int l = 0; l < kLanes; ++l) {
      const float f = feature[j - 1][l] * scale[j - 1];
      elevated[j][l] = total[l] - j * f;
      total[l] += f;
    }
  for (int l = 0; l < kLanes; ++l) elevated[0][l] = total[l];
  for (int i = 0; i <= D; ++i)
    for (int l = 0; l < kLanes; ++l) {
      const float nearest = (elevated[i][l] * (1.f / (D + 1)) + kRound) - kRound;
      remainder[i][l] = nearest * (D + 1);
      sum[l] += nearest;
    }
  for (int i = 0; i <= D; ++i)
    for (int l = 0; l < kLanes; ++l) rank[i][l] = static_cast<std::int32_t>(sum[l]);
  for (int i = 0; i < D; ++i)
    for (int j = i + 1; j <= D; ++j)
      for (int l = 0; l < kLanes; ++l) {
        const std::int32_t lower = elevated[i][l] - remainder[i][l] < elevated[j][l] - remainder[j][l];
        rank[i][l] += lower;
        rank[j][l] += 1 - lower;
      }
  float sorted[D + 1][kLanes];
  for (int i = 0; i <= D; ++i)
    for (int l = 0; l < kLanes; ++l) {
      const std::int32_t wrap = (rank[i][l] < 0) - (rank[i][l] > D);
      rank[i][l] += wrap * (D + 1);
      remainder[i][l] += static_cast<float>(wrap * (D + 1));
      sorted[D - rank[i][l]][l] = (elevated[i][l] - remainder[i][l]) * (1.f / (D + 1));
    }
  for (int l = 0; l < kLanes; ++l) weight[0][l] = sorted[0][l] + 1.f - sorted[D][l];
  for (int i = 1; i <= D; ++i)
    for (int l = 0; l < kLanes; ++l) weight[i][l] = sorted[i][l] - sorted[i - 1][l];
  for (int l = 0; l < kLanes; ++l) {  // colour c is D + 1 lower in the coordinates whose rank is above D - c
    std::int64_t key = 0, drop[D + 1] = {};
    for (int i = 0; i < D; ++i) {
      key += (static_cast<std::int64_t>(remainder[i][l]) - keys.lowest[i]) * keys.stride[i];
      drop[rank[i][l]] = (D + 1) * keys.stride[i];
    }
    for (int c = 0; c <= D; ++c) {
      corner[l][c] = key;
      key += keys.all - drop[D - c];
    }
  }
}

template <int D>
void link(Lattice& lattice, const Table& table, const Keys<D>& keys) {
  const std::vector<std::uint64_t>& all = table.keys();
  const std::size_t count = all.size();
  constexpr std::size_t kAhead = 16;
  lattice.vertices = count;
  lattice.neighbour.assign((D + 1) * count * 2, static_cast<std::int32_t>(count));
  for (int j = 0; j <= D; ++j) {
    std::int32_t* pair = lattice.neighbour.data() + j * count * 2;
    for (std::size_t v = 0; v < count; ++v) {
      if (v + kAhead < count) table.expect(all[v + kAhead] + keys.step[j]);
      const std::int32_t after = table.find(all[v] + keys.step[j]);
      if (after >= 0) {  // found from one side, linked from both
        pair[2 * v] = after;
        pair[2 * static_cast<std::size_t>(after) + 1] = static_cast<std::int32_t>(v);
      }
    }
  }
}

// Features are read by `read(first, count, feature)`; `reach` is the largest of each, the least is 0.
template <int D, typename Read>
void build(Lattice& lattice, std::size_t points, const std::array<float, D>& reach, Read read) {
  std::array<float, D> scale;
  const float spread = static_cast<float>(std::sqrt(2.0 / 3.0) * (D + 1));  // rounded first, as everyone does
  for (int i = 0; i < D; ++i) scale[i] = static_cast<float>(1.0 / std::sqrt((i + 1.0) * (i + 2.0)) * spread);
  const Keys<D> keys(scale, reach);
  lattice.corners = D + 1;
  lattice.points = points;
  lattice.corner.resize(points * (D + 1));
  lattice.weight.resize(points * (D + 1));
  Table table;
  float feature[D][kLanes] = {}, weight[D + 1][kLanes];
  std::int64_t corner[kLanes][D + 1];
  for (std::size_t first = 0; first < points; first += kLanes) {
    const int count = static_cast<int>(std::min<std::size_t>(kLanes, points - first));
    read(first, count, feature);
    simplices<D>(feature, scale, keys, corner, weight);
    for (int l = 0; l < count; ++l)
      for (int c = 0; c <= D; ++c) table.expect(corner[l][c]);
    for (int l = 0; l < count; ++l)
      for (int c = 0; c <= D; ++c) {
        lattice.corner[(first + l) * (D + 1) + c] = table.insert(corner[l][c]);
        lattice.weight[(first + l) * (D + 1) + c] = weight[c][l];
      }
  }
  link<D>(lattice, table, keys);
}

// A vertex's or a point's W channels, small enough for the compiler to keep in one or two registers.
template <int W>
struct Channels {
  float at[W];
  static Channels load(const float* from) {
    Channels c;
    std::memcpy(c.at, from, sizeof c.at);
    return c;
  }
  void store(float* to) const { std::memcpy(to, at, sizeof at); }
  void add(float factor, const Channels& other) {
    for (int c = 0; c < W; ++c) at[c] += factor * other.at[c];
  }
};

template <int W, int K>
void splat(const Lattice& lattice, const float* values, float* vertices) {
  const std::int32_t* corner = lattice.corner.data();
  const float* weight = lattice.weight.data();
  for (std::size_t p = 0; p < lattice.points; ++p, corner += K, weight += K) {
    const auto value = Channels<W>::load(values + p * W);
    for (int k = 0; k < K; ++k) {
      float* vertex = vertices + corner[k] * std::size_t{W};
      auto sum = Channels<W>::load(vertex);
      sum.add(weight[k], value);
      sum.store(vertex);
    }
  }
}

template <int W>
void blur(std::size_t count, const std::int32_t* pair, const float* now, float* next) {
  for (std::size_t v = 0; v < count; ++v, pair += 2) {
    auto sum = Channels<W>::load(now + v * W);
    auto sides = Channels<W>::load(now + pair[0] * std::size_t{W});
    sides.add(1.f, Channels<W>::load(now + pair[1] * std::size_t{W}));
    sum.add(.5f, sides);
    sum.store(next + v * W);
  }
  Channels<W>{}.store(next + count * W);
}

template <int W, int K>
void slice(const Lattice& lattice, float factor, const float* vertices, float* out) {
  const std::int32_t* corner = lattice.corner.data();
  const float* weight = lattice.weight.data();
  for (std::size_t p = 0; p < lattice.points; ++p, corner += K, weight += K) {
    Channels<W> sum{};
    for (int k = 0; k < K; ++k) sum.add(weight[k], Channels<W>::load(vertices + corner[k] * std::size_t{W}));
    auto total = Channels<W>::load(out + p * W);
    total.add(factor, sum);
    total.store(out + p * W);
  }
}

// Filters W interleaved channels: `values` (points x W) to factor times the kernel applied to them, added to `out`.
template <int W>
void filter(const Lattice& lattice, float factor, const float* values, float* out, std::vector<float>& room,
            std::vector<float>& spare) {
  room.assign((lattice.vertices + 1) * W, 0.f);
  spare.resize(room.size());
  float* now = room.data();
  float* next = spare.data();
  lattice.corners == 3 ? splat<W, 3>(lattice, values, now) : splat<W, 6>(lattice, values, now);
  for (int j = 0; j < lattice.corners; ++j, std::swap(now, next))
    blur<W>(lattice.vertices, lattice.neighbour.data() + j * lattice.vertices * 2, now, next);
  factor /= 1.f + std::ldexp(1.f, 1 - lattice.corners);
  lattice.corners == 3 ? slice<W, 3>(lattice, factor, now, out) : slice<W, 6>(lattice, factor, now, out);
}

// Folds the symmetric normalisation into the weights, and applies the result to ones.
void normalise(Lattice& lattice) {
  std::vector<float> values(lattice.points, 1.f), norm(lattice.points, 0.f), room, spare;
  filter<1>(lattice, 1.f, values.data(), norm.data(), room, spare);
  for (std::size_t p = 0; p < lattice.points; ++p) {
    const float scale = 1.f / std::sqrt(norm[p] + 1e-20f);
    for (int k = 0; k < lattice.corners; ++k) lattice.weight[p * lattice.corners + k] *= scale;
  }
  lattice.ones.assign(lattice.points, 0.f);
  filter<1>(lattice, 1.f, values.data(), lattice.ones.data(), room, spare);
}

std::unique_ptr<Lattice> spatial(int height, int width, float sigma) {
  auto lattice = std::make_unique<Lattice>();
  auto read = [=](std::size_t first, int count, float (&feature)[2][kLanes]) {
    for (int l = 0; l < count; ++l) {
      feature[0][l] = static_cast<float>((first + l) % width) / sigma;
      feature[1][l] = static_cast<float>((first + l) / width) / sigma;
    }
  };
  build<2>(*lattice, std::size_t(height) * width, {width / sigma, height / sigma}, read);
  normalise(*lattice);
  return lattice;
}

Lattice bilateral(const std::uint8_t* image, int height, int width, float sigma, float colour) {
  Lattice lattice;
  auto read = [=](std::size_t first, int count, float (&feature)[5][kLanes]) {
    for (int l = 0; l < count; ++l) {
      feature[0][l] = static_cast<float>((first + l) % width) / sigma;
      feature[1][l] = static_cast<float>((first + l) / width) / sigma;
      for (int c = 0; c < 3; ++c) feature[2 + c][l] = static_cast<float>(image[3 * (first + l) + c]) / colour;
    }
  };
  const float range = 255 / colour;
  build<5>(lattice, std::size_t(height) * width, {width / sigma, height / sigma, range, range, range}, read);
  normalise(lattice);
  return lattice;
}

void apply(const Lattice& lattice, int wide, float factor, const float* values, float* out, std::vector<float>& room,
           std::vector<float>& spare) {
  switch (wide) {
    case 1: return filter<1>(lattice, factor, values, out, room, spare);
    case 2: return filter<2>(lattice, factor, values, out, room, spare);
    default: return filter<4>(lattice, factor, values, out, room, spare);
  }
}

// exp(x) for x <= 0, to a few units in the last place; plain arithmetic, so that loops over it become vectors.
inline float exp_negative(float x) {
  x = x < -87.f ? -87.f : x;
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * .693359375f) + n * 2.12194440e-4f;
  float sum = 1.9875691500e-4f * r + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  sum = sum * (r * r) + r + 1.f;
  const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return sum * power;
}

struct Group {  // up to four labels filtered together, interleaved; those beyond the last are zero
  int first, labels, wide;
  std::vector<float> share, message;
};

std::vector<Group> groups(int labels, std::size_t points) {
  std::vector<Group> all;
  for (int first = 0; first < labels; first += 4) {
    const int count = std::min(4, labels - first);
    const int wide = count > 2 ? 4 : count;
    all.push_back({first, count, wide, std::vector<float>(points * wide), std::vector<float>(points * wide)});
  }
  return all;
}

// Softmax over the rows of the unary (rows x points) plus, where `ones` is given, the messages; written to the groups'
// shares and, where given, to `out` (rows x points).
void update(const float* unary, const float* ones, std::vector<Group>& groups, int rows, std::size_t points, float* out) {
  std::vector<std::array<float, kLanes>> logit(rows);
  for (std::size_t first = 0; first < points; first += kLanes) {
    const int count = static_cast<int>(std::min<std::size_t>(kLanes, points - first));
    for (int r = 0; r < rows; ++r)
      for (int l = 0; l < count; ++l) logit[r][l] = unary[r * points + first + l];
    if (ones)
      for (int l = 0; l < count; ++l) logit[0][l] += ones[first + l];
    if (ones)
      for (const Group& group : groups)
        for (int c = 0; c < group.labels; ++c)
          for (int l = 0; l < count; ++l) {
            const float message = group.message[(first + l) * group.wide + c];
            logit[0][l] -= message;
            logit[1 + group.first + c][l] += message;
          }
    float most[kLanes], sum[kLanes] = {};
    for (int l = 0; l < kLanes; ++l) most[l] = logit[0][l];
    for (int r = 1; r < rows; ++r)
      for (int l = 0; l < kLanes; ++l) most[l] = most[l] < logit[r][l] ? logit[r][l] : most[l];
    for (int r = 0; r < rows; ++r)
      for (int l = 0; l < kLanes; ++l) {
        logit[r][l] = exp_negative(logit[r][l] - most[l]);
        sum[l] += logit[r][l];
      }
    for (int l = 0; l < kLanes; ++l) sum[l] = 1.f / sum[l];
    for (int r = 0; r < rows; ++r)
      for (int l = 0; l < kLanes; ++l) logit[r][l] *= sum[l];
    for (Group& group : groups)
      for (int c = 0; c < group.labels; ++c)
        for (int l = 0; l < count; ++l) group.share[(first + l) * group.wide + c] = logit[1 + group.first + c][l];
    if (out)
      for (int r = 0; r < rows; ++r)
        for (int l = 0; l < count; ++l) out[r * points + first + l] = logit[r][l];
  }
}

}  // namespace

EXPORT void* clipes_spatial(int height, int width, float sigma) {
  try {
    return spatial(height, width, sigma).release();
  } catch (...) {
    return nullptr;
  }
}

EXPORT void clipes_free(void* lattice) { delete static_cast<Lattice*>(lattice); }

// Refines `scores` (rows x points) into `out`. Returns 0, 1 for want of memory, 2 for kernels too narrow for the keys.
EXPORT int clipes_mean_field(const std::uint8_t* image, const float* scores, float* out, int height, int width, int rows,
                             const void* smooth, float smooth_weight, float sigma, float colour, float bilateral_weight,
                             int iterations) {
  try {
    const std::size_t points = std::size_t(height) * width;
    const Lattice& near = *static_cast<const Lattice*>(smooth);
    const Lattice alike = bilateral(image, height, width, sigma, colour);
    std::vector<float> unary(points * rows), ones(points), room, spare;
    for (std::size_t i = 0; i < unary.size(); ++i) unary[i] = std::log(std::min(std::max(scores[i], kClip), 1.f));
    for (std::size_t p = 0; p < points; ++p) ones[p] = smooth_weight * near.ones[p] + bilateral_weight * alike.ones[p];
    std::vector<Group> all = groups(rows - 1, points);
    update(unary.data(), nullptr, all, rows, points, nullptr);
    for (int i = 0; i < iterations; ++i) {
      for (Group& group : all) {
        std::fill(group.message.begin(), group.message.end(), 0.f);
        apply(near, group.wide, smooth_weight, group.share.data(), group.message.data(), room, spare);
        apply(alike, group.wide, bilateral_weight, group.share.data(), group.message.data(), room, spare);
      }
      update(unary.data(), ones.data(), all, rows, points, i + 1 == iterations ? out : nullptr);
    }
    return 0;
  } catch (const std::range_error&) {
    return 2;
  } catch (...) {
    return 1;
  }
}
