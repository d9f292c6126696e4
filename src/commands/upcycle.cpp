// SPDX-License-Identifier: Apache-2.0
#include "convert/upcycle.hpp"

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/run_tokenizer.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "family/peft.hpp"

namespace caravan::commands {

namespace {

std::string describe(const family::Pesc& pesc) {
  return core::concat(pesc.experts, " experts, top-", pesc.topk, ", dimension ", pesc.adapter_dim, ", scaling ",
                      pesc.scaling);
}

std::string describe(const family::Lora& lora) {
  return core::concat("rank = ", lora.rank, ", alpha = ", lora.alpha,
                      ", rslora = ", lora.rank_stabilised ? "true" : "false",
                      ", targets = ", core::join(lora.targets, ", "));
}

}  // namespace

int upcycle(const Session& session) {
  const config::Config& config = session.config;
  const auto watchdog = comm::start_watchdog_beside(session.world, step_0_folder(session), config.watchdog.seconds);
  const family::Pesc wanted{config.upcycle.experts, config.upcycle.topk, config.upcycle.adapter_dim,
                            config.upcycle.scaling};
  convert::UpcycleRequest request;
  family::PeftAdapter adapter;
  bool continued = false;
  std::optional<family::Lora> configured;
  comm::on_all_ranks(session.world, [&] {
    family::ModelSpec base = family::read_model_spec(config.model.base, config.model.rope_theta);
    configured = family::lora_of(config.lora);
    if (!config.model.adapter.empty()) {
      adapter = family::read_peft_adapter(config.model.adapter);
      base = family::adapted(base, adapter);
    }
    continued = base.pesc.has_value();
    request = {config.model.base,        family::crafted(base, wanted, adapter.lora ? adapter.lora : configured),
               step_0_folder(session),   static_cast<std::uint64_t>(config.upcycle.seed),
               core::build_facts_text(), config.model.adapter};
  });
  request.tokenizer = config.data.tokenizer;
  comm::on_all_ranks(session.world, [&] { check_tokenizer_of_base(session); });
  if (continued) request.kept.emplace_back("upcycle");
  if (adapter.lora) request.kept.emplace_back("lora");
  const family::Pesc& pesc = *request.spec.pesc;
  if (continued && pesc != wanted) {
    core::log_warning(core::concat(adapter.pesc ? config.model.adapter : config.model.base,
                                   " has adapters already, which are kept: ", describe(pesc),
                                   "; what [upcycle] says otherwise is not used"));
  }
  if (adapter.lora && adapter.lora != configured) {
    core::log_warning(core::concat(config.model.adapter, " has LoRA already, which is kept: ", describe(*adapter.lora),
                                   "; what [lora] says otherwise is not used"));
  }
  const convert::UpcycleReport report = convert::upcycle(session.world, request);
  if (report.already_there) {
    core::log(request.folder.string(), " already holds this model; nothing was written");
    const std::string conflict = session.first() ? tokenizer_of_data(session).conflict : "";
    if (!conflict.empty()) core::log_warning(conflict);
    return 0;
  }
  const std::string from = adapter.folder.empty() ? "" : " and " + adapter.folder;
  core::log(continued ? "took over " : "upcycled ", config.model.base, from, continued ? " with " : " to ",
            pesc.experts, " experts, top-", pesc.topk, ": ", report.frozen, " frozen and ", report.trainable,
            " trainable parameters, ", core::format_bytes(report.bytes), " in ", core::format_duration(report.seconds),
            ", into ", request.folder.string());
  return 0;
}

}  // namespace caravan::commands
