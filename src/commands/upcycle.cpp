// SPDX-License-Identifier: Apache-2.0
#include "convert/upcycle.hpp"

#include "comm/agreement.hpp"
#include "commands/start.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/text.hpp"

namespace caravan::commands {

int upcycle(const Session& session) {
  const config::Config& config = session.config;
  const family::Pesc wanted{config.upcycle.experts, config.upcycle.topk, config.upcycle.adapter_dim,
                            config.upcycle.scaling};
  convert::UpcycleRequest request;
  bool continued = false;
  comm::on_all_ranks(session.world, [&] {
    const family::ModelSpec base = family::read_model_spec(config.model.base, config.model.rope_theta);
    continued = base.pesc.has_value();
    request = {config.model.base, family::crafted(base, wanted, family::lora_of(config.lora)), step_0_folder(session),
               static_cast<std::uint64_t>(config.upcycle.seed), core::build_facts_text()};
  });
  const family::Pesc& pesc = *request.spec.pesc;
  if (continued && pesc != wanted) {
    core::log_warning(core::concat(config.model.base, " has adapters already, which are kept: ", pesc.experts,
                                   " experts, top-", pesc.topk, ", dimension ", pesc.adapter_dim, ", scaling ",
                                   pesc.scaling, "; what [upcycle] says otherwise is not used"));
  }
  const convert::UpcycleReport report = convert::upcycle(session.world, request);
  if (report.already_there) {
    core::log(request.folder.string(), " already holds this model; nothing was written");
    return 0;
  }
  core::log(continued ? "took over " : "upcycled ", config.model.base, continued ? " with " : " to ", pesc.experts,
            " experts, top-", pesc.topk, ": ", report.frozen, " frozen and ", report.trainable,
            " trainable parameters, ", core::format_bytes(report.bytes), " in ", core::format_duration(report.seconds),
            ", into ", request.folder.string());
  return 0;
}

}  // namespace caravan::commands
