// SPDX-License-Identifier: Apache-2.0
#include "convert/export.hpp"

#include "convert/chat_template.hpp"
#include "convert/terms.hpp"
#include "convert/transformers_classes.hpp"
#include "family/families.hpp"
#include "io/atomic_file.hpp"

namespace caravan::convert {

ExportReport write_model_folder(comm::Communicator& world, const ExportRequest& request) {
  const std::vector<TensorFile> files =
      model_files(request.folder, export_tensors(request.spec, request.as.dtype), request.shard_bytes);
  const double scale = request.spec.lora ? request.spec.lora->scale() : 0.0;
  return write_tensor_files(world, request.source, scale, files, [&] {
    if (files.size() > 1) {
      io::write_file_atomically(request.folder / "model.safetensors.index.json", index_text(files));
    }
    write_companions(
        request.companions, request.folder,
        exported_config(io::read_file(request.companions.model / "config.json"), request.spec, request.as));
    complete_tokenizer(request.folder, request.chat_template,
                       family::family_of(request.spec.model_type).dense == "qwen2");
    if (!request.terms.empty()) copy_terms(request.terms, request.folder);
    if (request.as.format == ExportFormat::pesc) write_transformers_classes(request.folder);
  });
}

}  // namespace caravan::convert
