// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5.hpp"

#include <array>
#include <bit>
#include <limits>

#include "core/error.hpp"
#include "io/hdf5_error.hpp"

namespace caravan::io {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are stored as they are in memory");

const std::string no_dataset;
constexpr const char* dtype_attribute = "dtype";

// The type in the file, which is also the one in memory: the library never converts.
Hdf5Handle type_of(core::DType dtype, const Hdf5Action& action) {
  const auto copy = [&](hid_t type) { return Hdf5Handle(checked(H5Tcopy(type), action), H5Tclose); };
  switch (dtype) {
    case core::DType::f32: return copy(H5T_IEEE_F32LE);
    case core::DType::f64: return copy(H5T_IEEE_F64LE);
    case core::DType::i64: return copy(H5T_STD_I64LE);
    case core::DType::i32: return copy(H5T_STD_I32LE);
    case core::DType::u8: return copy(H5T_STD_U8LE);
    case core::DType::bf16: return copy(H5T_STD_U16LE);
    case core::DType::f16: break;
  }
  Hdf5Handle half = copy(H5T_IEEE_F32LE);
  checked(H5Tset_fields(half, 15, 10, 5, 0, 10), action);  // sign bit, exponent at 10 of 5 bits, mantissa of 10 bits
  checked(H5Tset_size(half, 2), action);
  checked(H5Tset_ebias(half, 15), action);
  return half;
}

std::vector<hsize_t> to_hsize(const layout::Shape& shape) { return {shape.begin(), shape.end()}; }

Hdf5Handle space_of(const layout::Shape& shape, const Hdf5Action& action) {
  const std::vector<hsize_t> extents = to_hsize(shape);
  return {checked(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), action), H5Sclose};
}

void select(hid_t space, const layout::Rectangle& part, const Hdf5Action& action) {
  const std::vector<hsize_t> offset = to_hsize(part.offset);
  const std::vector<hsize_t> extent = to_hsize(part.extent);
  checked(H5Sselect_hyperslab(space, H5S_SELECT_SET, offset.data(), nullptr, extent.data(), nullptr), action);
}

void write_text_attribute(hid_t object, const std::string& key, const std::string& text, const Hdf5Action& action) {
  const Hdf5Handle type(checked(H5Tcopy(H5T_C_S1), action), H5Tclose);
  checked(H5Tset_size(type, text.size() + 1), action);
  checked(H5Tset_cset(type, H5T_CSET_UTF8), action);
  const Hdf5Handle space(checked(H5Screate(H5S_SCALAR), action), H5Sclose);
  const Hdf5Handle attribute(checked(H5Acreate2(object, key.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), action),
                             H5Aclose);
  checked(H5Awrite(attribute, type, text.c_str()), action);
}

std::string read_text_attribute(hid_t object, const std::string& key, const Hdf5Action& action) {
  const Hdf5Handle attribute(checked(H5Aopen(object, key.c_str(), H5P_DEFAULT), action), H5Aclose);
  const Hdf5Handle type(checked(H5Aget_type(attribute), action), H5Tclose);
  if (checked(H5Tget_class(type), action) != H5T_STRING || checked(H5Tis_variable_str(type), action) > 0) {
    core::bad_input(action.path.string(), ": attribute ", key, " is not text of fixed length");
  }
  std::string text(H5Tget_size(type), '\0');
  checked(H5Aread(attribute, type, text.data()), action);
  text.resize(std::char_traits<char>::length(text.c_str()));
  return text;
}

core::DType dtype_of(hid_t dataset, const Hdf5Action& action) {
  const Hdf5Handle stored(checked(H5Dget_type(dataset), action), H5Tclose);
  if (checked(H5Aexists(dataset, dtype_attribute), action) > 0) {
    return core::dtype_from_name(read_text_attribute(dataset, dtype_attribute, action));
  }
  using enum core::DType;
  for (const core::DType dtype : {f32, f16, f64, i64, i32, u8}) {
    if (checked(H5Tequal(stored, type_of(dtype, action)), action) > 0) return dtype;
  }
  core::bad_input(action.path.string(), ", dataset ", action.dataset, ": element type is none that Caravan writes");
}

// A link creation list that makes the groups which a name with "/" needs.
Hdf5Handle link_creation(const Hdf5Action& action) {
  Hdf5Handle list(checked(H5Pcreate(H5P_LINK_CREATE), action), H5Pclose);
  checked(H5Pset_create_intermediate_group(list, 1), action);
  checked(H5Pset_char_encoding(list, H5T_CSET_UTF8), action);
  return list;
}

hid_t make_dataset(hid_t file, core::DType dtype, hid_t space, hid_t creation, const Hdf5Action& action) {
  const Hdf5Handle links = link_creation(action);
  Hdf5Handle dataset(
      checked(H5Dcreate2(file, action.dataset.c_str(), type_of(dtype, action), space, links, creation, H5P_DEFAULT),
              action),
      H5Dclose);
  if (dtype == core::DType::bf16) {
    write_text_attribute(dataset, dtype_attribute, std::string(core::name_of(dtype)), action);
  }
  return dataset.release();
}

void set_nan_fill(hid_t creation, core::DType dtype, hid_t type, const Hdf5Action& action) {
  const float nan32 = std::numeric_limits<float>::quiet_NaN();
  const double nan64 = std::numeric_limits<double>::quiet_NaN();
  const std::uint16_t nan_bf16 = 0x7fc0;
  const std::uint16_t nan_f16 = 0x7e00;
  switch (dtype) {
    case core::DType::f32: checked(H5Pset_fill_value(creation, type, &nan32), action); return;
    case core::DType::f64: checked(H5Pset_fill_value(creation, type, &nan64), action); return;
    case core::DType::bf16: checked(H5Pset_fill_value(creation, type, &nan_bf16), action); return;
    case core::DType::f16: checked(H5Pset_fill_value(creation, type, &nan_f16), action); return;
    default: return;
  }
}

Hdf5Handle file_access(const Hdf5Action& action) {
  Hdf5Handle list(checked(H5Pcreate(H5P_FILE_ACCESS), action), H5Pclose);
  checked(H5Pset_file_locking(list, 0, 1), action);
  // A file that is closed while a dataset is open would be written later, after its fsync: make that an error.
  checked(H5Pset_fclose_degree(list, H5F_CLOSE_SEMI), action);
  return list;
}

// In the names that H5Pset_virtual takes, "%" begins a pattern.
std::string without_patterns(const std::string& name) {
  std::string result;
  for (const char c : name) result += c == '%' ? std::string("%%") : std::string(1, c);
  return result;
}

}  // namespace

Hdf5Dataset::Hdf5Dataset(std::filesystem::path path, std::string name, std::int64_t id, layout::Shape shape,
                         core::DType dtype)
    : path_(std::move(path)), name_(std::move(name)), id_(id), shape_(std::move(shape)), dtype_(dtype) {}

Hdf5Dataset::Hdf5Dataset(Hdf5Dataset&& other) noexcept
    : path_(std::move(other.path_)),
      name_(std::move(other.name_)),
      id_(std::exchange(other.id_, -1)),
      shape_(std::move(other.shape_)),
      dtype_(other.dtype_) {}

Hdf5Dataset::~Hdf5Dataset() {
  if (id_ < 0) return;
  const Hdf5Lock lock;
  H5Dclose(id_);
}

void Hdf5Dataset::write_rows(std::int64_t begin, std::int64_t end, const void* data) {
  const Hdf5Lock lock;
  const Hdf5Action action{"write", path_, name_};
  layout::Rectangle part = layout::whole(shape_);
  part.offset.at(0) = begin;
  part.extent.at(0) = end - begin;
  const Hdf5Handle space = space_of(shape_, action);
  const Hdf5Handle memory = space_of(part.extent, action);
  select(space, part, action);
  checked(H5Dwrite(id_, type_of(dtype_, action), memory, space, H5P_DEFAULT, data), action);
}

void Hdf5Dataset::read_rows(std::int64_t begin, std::int64_t end, void* target) const {
  layout::Rectangle part = layout::whole(shape_);
  part.offset.at(0) = begin;
  part.extent.at(0) = end - begin;
  read(part, target);
}

void Hdf5Dataset::read(const layout::Rectangle& part, void* target) const {
  const Hdf5Lock lock;
  const Hdf5Action action{"read", path_, name_};
  const Hdf5Handle space = space_of(shape_, action);
  const Hdf5Handle memory = space_of(part.extent, action);
  select(space, part, action);
  checked(H5Dread(id_, type_of(dtype_, action), memory, space, H5P_DEFAULT, target), action);
}

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  const Hdf5Lock lock;
  const Hdf5Action action{"create", path, no_dataset};
  const Hdf5Handle access = file_access(action);
  return {path, checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), action)};
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  const Hdf5Lock lock;
  const Hdf5Action action{"open", path, no_dataset};
  const Hdf5Handle access = file_access(action);
  return {path, checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), action)};
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept : path_(std::move(other.path_)), id_(std::exchange(other.id_, -1)) {}

Hdf5File::~Hdf5File() {
  if (id_ < 0) return;
  const Hdf5Lock lock;
  H5Fclose(id_);
}

Hdf5Dataset Hdf5File::create_dataset(const std::string& name, const layout::Shape& shape, core::DType dtype) {
  const Hdf5Lock lock;
  const Hdf5Action action{"write", path_, name};
  const Hdf5Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), action), H5Pclose);
  checked(H5Pset_layout(creation, H5D_CONTIGUOUS), action);
  checked(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), action);
  checked(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), action);
  return {path_, name, make_dataset(id_, dtype, space_of(shape, action), creation, action), shape, dtype};
}

void Hdf5File::create_virtual(const std::string& name, const layout::Shape& shape, core::DType dtype,
                              const std::vector<VirtualPart>& parts) {
  const Hdf5Lock lock;
  const Hdf5Action action{"write", path_, name};
  const Hdf5Handle creation(checked(H5Pcreate(H5P_DATASET_CREATE), action), H5Pclose);
  const Hdf5Handle space = space_of(shape, action);
  for (const VirtualPart& part : parts) {
    const Hdf5Handle source = space_of(part.part.extent, action);
    select(space, part.part, action);
    checked(H5Pset_virtual(creation, space, without_patterns(part.file).c_str(), without_patterns(part.dataset).c_str(),
                           source),
            action);
  }
  set_nan_fill(creation, dtype, type_of(dtype, action), action);
  checked(H5Sselect_all(space), action);
  const Hdf5Handle dataset(make_dataset(id_, dtype, space, creation, action), H5Dclose);
}

bool Hdf5File::contains(const std::string& name) const {
  const Hdf5Lock lock;
  const Hdf5Action action{"read", path_, name};
  // H5Lexists fails when a group on the way is missing, so every prefix is asked for.
  for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    if (slash > 0 && checked(H5Lexists(id_, name.substr(0, slash).c_str(), H5P_DEFAULT), action) == 0) return false;
  }
  return checked(H5Lexists(id_, name.c_str(), H5P_DEFAULT), action) > 0;
}

Hdf5Dataset Hdf5File::dataset(const std::string& name) const {
  const Hdf5Lock lock;
  const Hdf5Action action{"read", path_, name};
  Hdf5Handle found(checked(H5Dopen2(id_, name.c_str(), H5P_DEFAULT), action), H5Dclose);
  const Hdf5Handle space(checked(H5Dget_space(found), action), H5Sclose);
  const int rank = checked(H5Sget_simple_extent_ndims(space), action);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  checked(H5Sget_simple_extent_dims(space, extents.data(), nullptr), action);
  const core::DType dtype = dtype_of(found, action);
  return {path_, name, found.release(), layout::Shape(extents.begin(), extents.end()), dtype};
}

void Hdf5File::set_attribute(const std::string& key, const std::string& text) {
  const Hdf5Lock lock;
  write_text_attribute(id_, key, text, {"write", path_, no_dataset});
}

std::string Hdf5File::attribute(const std::string& key) const {
  const Hdf5Lock lock;
  return read_text_attribute(id_, key, {"read", path_, no_dataset});
}

void Hdf5File::close() {
  const Hdf5Lock lock;
  const Hdf5Action action{"write", path_, no_dataset};
  const ssize_t open = checked(H5Fget_obj_count(id_, H5F_OBJ_DATASET | H5F_OBJ_GROUP | H5F_OBJ_ATTR), action);
  CARAVAN_CHECK(open == 0, path_.string(), " is closed while ", open, " of its objects are open");
  // Not tried again when it fails: the library has freed the file by then.
  checked(H5Fclose(std::exchange(id_, -1)), action);
}

}  // namespace caravan::io
