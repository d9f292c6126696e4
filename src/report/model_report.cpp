// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <set>

#include "core/error.hpp"
#include "core/text.hpp"
#include "family/hugging_face_source.hpp"
#include "family/peft.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"
#include "report/reports.hpp"
#include "report/tensor_tally.hpp"

namespace caravan::report {
namespace {

namespace fs = std::filesystem;
using io::SafetensorsFile;
using io::SafetensorsHeader;

std::int64_t bytes_of(const SafetensorsFile::Entry& entry) {
  return static_cast<std::int64_t>(entry.end - entry.begin);
}

void list_tensors(const std::map<std::string, SafetensorsHeader>& files, Page& page) {
  Rows rows{{"tensor", "shape", "stored as", "size", "first byte", "lies in"}};
  for (const auto& [file, header] : files) {
    for (const auto& [name, entry] : header.tensors) {
      rows.push_back({name, layout::to_string(entry.shape), entry.dtype,
                      core::format_bytes(static_cast<std::uint64_t>(bytes_of(entry))),
                      grouped(static_cast<std::int64_t>(entry.begin)), file});
    }
  }
  page.table("tensors", rows, {3, 4});
}

void write_metadata(const SafetensorsHeader& header, Page& page) {
  for (const auto& [key, value] : header.metadata) page.line("metadata " + key, value);
}

std::string size_of_file(const fs::path& file) { return core::format_bytes(fs::file_size(file)); }

// What the files hold; paths lie below the folder.
void write_files(const fs::path& folder, const std::set<fs::path>& paths, const Request& request, Page& page) {
  std::map<std::string, SafetensorsHeader> files;
  std::uint64_t bytes = 0;
  TensorTally tally;
  for (const fs::path& path : paths) {
    const std::string name = path.lexically_relative(folder).string();
    const auto& header = files.emplace(name, io::parse_safetensors_header(io::MappedFile(path))).first->second;
    for (const auto& [tensor, entry] : header.tensors) tally.add(tensor, entry.shape, entry.dtype, bytes_of(entry));
    bytes += fs::file_size(path);
  }
  page.line("files",
            core::concat(files.size(), files.size() == 1 ? " file of " : " files of ", core::format_bytes(bytes)));
  page.line("parameters", tally.parameters());
  tally.write(page);
  if (request.tensors) list_tensors(files, page);
  page.checked("the headers of all files, to the byte");
}

void write_mark(const fs::path& folder, Page& page) {
  if (const fs::path mark = folder / "UNVERIFIED"; fs::exists(mark)) {
    page.problem(mark.string() + ": export found that this folder does not compute what its checkpoint does");
  }
}

std::string describe(const family::Lora& lora) {
  return core::concat("rank ", lora.rank, ", alpha ", lora.alpha, lora.rank_stabilised ? ", rank-stabilised" : "",
                      ", on ", core::join(lora.targets));
}

std::string describe(const family::Pesc& pesc) {
  return core::concat(pesc.experts, " experts, top-", pesc.topk, ", adapters of ", pesc.adapter_dim, ", scaling ",
                      pesc.scaling);
}

}  // namespace

std::string describe(const family::ModelSpec& spec) {
  std::string text = core::concat(spec.model_type, ", ", spec.pesc ? "mixture of experts (PESC)" : "dense", ", ",
                                  core::name_of(spec.dtype), ": ", spec.layers, " layers, hidden ", spec.hidden,
                                  ", feed-forward ", spec.ffn, ",\n", spec.heads, " heads of ", spec.head_dim, " (",
                                  spec.kv_heads, " for keys and values), vocabulary ", spec.vocabulary, ", ",
                                  spec.max_positions, " positions, ", spec.rotary.describe());
  if (spec.window > 0) text += core::concat(", attention over the last ", spec.window, " tokens");
  if (spec.pesc) text += core::concat("\n", describe(*spec.pesc));
  if (spec.lora) text += core::concat("\nLoRA of ", describe(*spec.lora));
  return text;
}

void report_model(const fs::path& folder, const Request& request, Page& page) {
  page.title("Hugging Face model", folder.string());
  const family::ModelSpec spec = family::read_model_spec(folder.string());
  page.line("model", describe(spec));
  const io::SafetensorsDirectory directory(folder);
  std::set<fs::path> paths;
  for (const std::string& name : directory.names()) paths.insert(directory.file_of(name).path());
  page.line("tokenizer", fs::exists(folder / "tokenizer.model") ? "tokenizer.model" : "none");
  write_files(folder, paths, request, page);
  const family::HuggingFaceSource compared(folder.string(), spec);
  page.checked("every tensor that config.json asks for is there in its shape, and no other");
  page.unchecked("the tensors' bytes: the format has no checksums");
  write_mark(folder, page);
}

void report_adapter(const fs::path& folder, const Request& request, Page& page) {
  page.title("PEFT adapter", folder.string());
  const family::PeftAdapter adapter = family::read_peft_adapter(folder.string());
  if (adapter.lora) page.line("LoRA", describe(*adapter.lora));
  if (adapter.pesc) page.line("mixture", core::concat(adapter.model_type, ", ", describe(*adapter.pesc)));
  std::set<fs::path> paths;
  if (const fs::path file = folder / "adapter_model.safetensors"; fs::exists(file)) paths.insert(file);
  if (const fs::path mixture = folder / family::peft_mixture_folder; fs::is_directory(mixture)) {
    for (const auto& entry : fs::directory_iterator(mixture)) {
      if (entry.path().extension() == ".safetensors") paths.insert(entry.path());
    }
  }
  write_files(folder, paths, request, page);
  page.unchecked("the tensors' bytes: the format has no checksums");
  page.unchecked("whether they fit a base: caravan verify --model=BASE --adapter=" + folder.string() + " does that");
  write_mark(folder, page);
}

void report_safetensors(const fs::path& file, const Request& request, Page& page) {
  page.title("safetensors file", file.string());
  const std::map<std::string, SafetensorsHeader> files{
      {file.filename().string(), io::parse_safetensors_header(io::MappedFile(file))}};
  const SafetensorsHeader& header = files.begin()->second;
  struct Sum {
    std::int64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> by_type;
  for (const auto& [name, entry] : header.tensors) {
    Sum& sum = by_type[entry.dtype];
    ++sum.tensors;
    sum.elements += layout::element_count(entry.shape);
    sum.bytes += bytes_of(entry);
  }
  page.line("size", size_of_file(file));
  write_metadata(header, page);
  Rows rows{{"stored as", "tensors", "elements", "size"}};
  for (const auto& [dtype, sum] : by_type) {
    rows.push_back({dtype, grouped(sum.tensors), grouped(sum.elements),
                    core::format_bytes(static_cast<std::uint64_t>(sum.bytes))});
  }
  page.table("", rows, {1, 2, 3});
  if (request.tensors) list_tensors(files, page);
  page.checked("the header, to the byte: every byte after it belongs to one tensor");
  page.unchecked("the tensors' bytes: the format has no checksums");
}

}  // namespace caravan::report
