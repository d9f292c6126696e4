// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "config/flags.hpp"
#include "core/error.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using caravan::config::Config;
using caravan::config::load;
using Arguments = std::vector<std::string>;

namespace {

/// A file with the given text that goes away again.
class File {
 public:
  explicit File(const std::string& text)
      : path_(fs::temp_directory_path() / ("caravan_config_" + std::to_string(getpid()) + ".ini")) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~File() { fs::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

std::string error_of(const std::string& text, const Arguments& arguments = {}) {
  const File file(text);
  try {
    load(file.path(), arguments);
  } catch (const caravan::core::Error& error) {
    CHECK(error.code() == caravan::core::ExitCode::bad_input);
    std::string message = error.what();
    for (std::size_t at; (at = message.find(file.path())) != std::string::npos;)
      message.replace(at, file.path().size(), "F");
    return message;
  }
  return "no error";
}

/// Gives a setting another value.
struct Change {
  void operator()(bool* value) const { *value = !*value; }
  void operator()(std::int64_t* value) const { *value += 1; }
  void operator()(double* value) const { *value += 1; }
  void operator()(std::string* value) const { *value += "x"; }
  void operator()(std::vector<std::string>* value) const { value->push_back("x"); }
  void operator()(caravan::core::Mebibytes* value) const { value->count += 1; }
  void operator()(const caravan::core::Choice& value) const {
    CHECK(value.choose(value.names()[value.name() == value.names()[0] ? 1 : 0]));
  }
};

}  // namespace

TEST_CASE("the defaults are the published recipe") {
  const Config config = load("", {});
  CHECK(config.train.lr == 2e-4);
  CHECK(config.train.batch == 128);
  CHECK(config.train.sequence == 2048);
  CHECK(config.train.clip == 0.3);
  CHECK((config.train.epochs == 1 && config.train.steps == 0));
  CHECK((config.upcycle.experts == 8 && config.upcycle.topk == 2 && config.upcycle.adapter_dim == 512));
  CHECK(config.upcycle.scaling == 0.25);
  CHECK((config.lora.rank == 64 && config.lora.alpha == 16 && config.lora.targets.size() == 7));
}

TEST_CASE("a file sets values and the command line replaces them") {
  const File file(
      "[run]\nfolder = runs/a b\n[train]\nsteps=12 # few\nlr = 1e-3\nshuffle = no\n"
      "[lora]\ntargets = q_proj\ntargets = v_proj, o_proj\n");
  const Config config = load(file.path(), {"--train.lr=0.5", "--layout.tp", "2"});
  CHECK(config.run.folder == "runs/a b");
  CHECK((config.train.steps == 12 && config.train.epochs == 0));
  CHECK(config.train.lr == 0.5);
  CHECK_FALSE(config.train.shuffle);
  CHECK(config.layout.tp == 2);
  CHECK(config.lora.targets == std::vector<std::string>{"q_proj", "v_proj", "o_proj"});
  CHECK(load(file.path(), {"--lora.targets=k_proj,up_proj"}).lora.targets ==
        std::vector<std::string>{"k_proj", "up_proj"});
  const Config longer = load(file.path(), {"--train.epochs=3"});
  CHECK((longer.train.steps == 0 && longer.train.epochs == 3));
  CHECK(load("", {"--train.steps=0"}).train.epochs == 1);
  CHECK(load("", {"--train.warmup_steps=0"}).train.warmup_ratio == 0);
}

TEST_CASE("every error of a file is named with its line") {
  struct Case {
    const char* text;
    const char* message;
  };
  const std::vector<Case> cases{
      {"[train]\nstesp = 3\n", "F:2: unknown setting train.stesp; did you mean train.steps?"},
      {"[train]\ntp = 3\n", "F:2: unknown setting train.tp; did you mean layout.tp?"},
      {"[train]\nqqqqqqqqqqqqqq = 3\n", "F:2: unknown setting train.qqqqqqqqqqqqqq"},
      {"[trian]\nsteps = 3\n", "F:1: unknown section trian; did you mean train?"},
      {"steps = 3\n", "F:1: steps stands before any [section]"},
      {"[train]\nlr = fast\n", "F:2: train.lr = fast is not a number"},
      {"[train]\nlr =\n", "F:2: train.lr = (nothing) is not a number"},
      {"[train]\nlr = nan\n", "F:2: train.lr = nan is not a number"},
      {"[train]\nlr = 0\n", "F:2: train.lr = 0 is out of range; use above 0 and at most 1"},
      {"[train]\nbatch = 2.5\n", "F:2: train.batch = 2.5 is not a whole number"},
      {"[train]\nbatch = 0\n", "F:2: train.batch = 0 is out of range; use 1 to 16777216 sequences"},
      {"[train]\nbatch = 99999999999999999999\n",
       "F:2: train.batch = 99999999999999999999 is out of range; use 1 to 16777216 sequences"},
      {"[train]\nclip = 1e999\n", "F:2: train.clip = 1e999 is out of range; use 0 to 1000000000"},
      {"[train]\nshuffle = maybe\n", "F:2: train.shuffle = maybe is not a choice; use true or false"},
      {"[train]\nprecision = fp23\n",
       "F:2: train.precision = fp23 is not a choice; use bf16 or fp32; did you mean fp32?"},
      {"[train]\nbalance_scope = bacth\n",
       "F:2: train.balance_scope = bacth is not a choice; use batch or sequence; did you mean batch?"},
      {"[lora]\ntargets = q_proj, k_prj\n",
       "F:2: lora.targets = k_prj is not a choice; use q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or "
       "down_proj; "
       "did you mean k_proj?"},
      {"[train]\nseed = 1\n\nseed = 2\n", "F:4: train.seed is given twice; before: F:2"},
      {"[train]\nsteps = 1\n[lora]\n[train]\nepochs = 2\n",
       "F:5: train.epochs excludes train.steps (F:2): give one of them"},
      {"[train]\nwarmup_ratio = 0.1\nwarmup_steps = 2\n",
       "F:2: train.warmup_ratio excludes train.warmup_steps (F:3): give one of them"},
      {"[train]\nsteps = 0\nepochs = 0\n", "train.steps and train.epochs are both 0: set one of them"},
      {"[run]\nfolder = ${CARAVAN_TEST_NOWHERE}/x\n",
       "F:2: the environment has no variable CARAVAN_TEST_NOWHERE; set it, or write $${ for a literal ${"},
      {"[layout]\ntp = 0\nep = x\n[run\n",
       "F:4: a section is written [name]\nF:2: layout.tp = 0 is out of range; use 1 to 1048576 ranks\n"
       "F:3: layout.ep = x is not a whole number"}};
  for (const Case& item : cases) {
    INFO(item.text);
    CHECK(error_of(item.text) == item.message);
  }
}

TEST_CASE("every error of the command line is named") {
  struct Case {
    Arguments arguments;
    const char* message;
  };
  const std::vector<Case> cases{
      {{"--train.stesp=3"}, "command line: unknown setting train.stesp; did you mean train.steps?"},
      {{"--train.step=3"}, "command line: unknown setting train.step; did you mean train.steps?"},
      {{"--train.lr=x", "--layout.tp=0"},
       "command line: train.lr = x is not a number\n"
       "command line: layout.tp = 0 is out of range; use 1 to 1048576 ranks"},
      {{"stray"}, "command line: unexpected argument stray; settings are --section.key=value"},
      {{"--train.lr=0.1", "--train.lr=0.2"}, "command line: train.lr is given twice"},
      {{"--train.steps=1", "--train.epochs=2"},
       "command line: train.epochs excludes train.steps (command line): give one of them"}};
  for (const Case& item : cases) CHECK(error_of("", item.arguments) == item.message);
  // The rest of this message is Boost's.
  CHECK(error_of("", {"--train.lr"}).starts_with("command line: the required argument for option '--train.lr'"));
  CHECK_THROWS_WITH(load("/nonexistent/x.ini", {}), "/nonexistent/x.ini: cannot be read");
}

TEST_CASE("dump is read back to the same values and JSON") {
  const Config config = load("", {"--run.folder= spaced # path", "--train.lr=0.00012345678901234567", "--train.steps=7",
                                  "--train.warmup_steps=2", "--lora.targets=q_proj,down_proj",
                                  "--model.base=$${X}/it's", "--train.shuffle=false"});
  CHECK(config.run.folder == "spaced # path");
  const File file(caravan::config::dump(config));
  const Config again = load(file.path(), {});
  CHECK(caravan::config::dump(again) == caravan::config::dump(config));
  CHECK(caravan::config::json(again) == caravan::config::json(config));
  CHECK(again.train.lr == config.train.lr);
  CHECK(again.model.base == "${X}/it's");
  const auto parsed = nlohmann::json::parse(caravan::config::json(config));
  CHECK(parsed["train"]["steps"] == 7);
  CHECK(parsed["train"]["lr"] == 0.00012345678901234567);
  CHECK(parsed["lora"]["targets"].size() == 2);
}

TEST_CASE("modes and sizes are spelled as they are in files, help and checkpoints") {
  using namespace caravan;
  const Config config =
      load("", {"--train.precision=fp32", "--train.recompute=selective", "--train.balance_scope=sequence",
                "--data.template=idae_official", "--data.packing=simple", "--data.on_error=skip",
                "--export.dtype=bfloat16", "--train.exchange_mib=3"});
  CHECK(config.train.precision == train::Precision::fp32);
  CHECK(config.train.recompute == model::Recompute::selective);
  CHECK(config.train.balance_scope == model::BalanceScope::sequence);
  CHECK(config.data.prompt_template == data::TemplateKind::idae_official);
  CHECK(config.data.packing == data::Packing::simple);
  CHECK(config.data.on_error == data::OnError::skip);
  CHECK(config.export_.dtype == convert::ExportType::bfloat16);
  CHECK(config.train.exchange_mib.bytes() == 3 * 1024 * 1024);
  const auto spelled = nlohmann::json::parse(config::json(config));
  CHECK(spelled["train"]["precision"] == "fp32");
  CHECK(spelled["train"]["recompute"] == "selective");
  CHECK(spelled["data"]["template"] == "idae_official");
  CHECK(spelled["train"]["exchange_mib"] == 3);
  const std::string text = config::dump(config);
  for (const char* line : {"\nprecision = fp32\n", "\nbalance_scope = sequence\n", "\npacking = simple\n",
                           "\non_error = skip\n", "\ndtype = bfloat16\n", "\nexchange_mib = 3\n"}) {
    CHECK(text.find(line) != std::string::npos);
  }
  // Every value of every mode is read back as it is spelled.
  Config any;
  for (const auto& field : config::fields_of(any)) {
    if (const auto* choice = std::get_if<core::Choice>(&field.target)) {
      for (const std::string_view name : choice->names()) {
        CHECK(config::assign(field, {std::string(name)}).empty());
        CHECK(config::format(field) == name);
      }
    }
  }
}

TEST_CASE("an empty value on the command line sets a text to nothing") {
  const File file("[run]\nfolder = somewhere\n[lora]\nrank = 3\n");
  CHECK(load(file.path(), {}).run.folder == "somewhere");
  CHECK(load(file.path(), {"--run.folder="}).run.folder.empty());
  for (const char* flag : {"--lora.rank=", "--lora.rank"}) {
    std::string message;
    try {
      load(file.path(), {flag});
    } catch (const caravan::core::Error& error) {
      message = error.what();
    }
    CHECK(message.find("lora.rank") != std::string::npos);
  }
}

TEST_CASE("the JSON follows every value and nothing else") {
  const Config plain = load("", {});
  const File spelled("[layout]\nep = 1\n[train]\nlr = 0.0002 # the default, written out\n");
  CHECK(caravan::config::json(load(spelled.path(), {})) == caravan::config::json(plain));
  Config changed = plain;
  for (const auto& field : caravan::config::fields_of(changed)) {
    const std::string before = caravan::config::json(changed);
    std::visit(Change(), field.target);
    INFO(field.name());
    CHECK(caravan::config::json(changed) != before);
  }
}

TEST_CASE("help names every setting") {
  const std::string text = caravan::config::help();
  Config config;
  for (const auto& field : caravan::config::fields_of(config))
    CHECK(text.find("--" + field.name() + "=") != std::string::npos);
}

TEST_CASE("a command says which settings it misses") {
  using namespace caravan::config;
  const auto complaint = [](const Config& config, auto check) -> std::string {
    try {
      caravan::core::Complaints complaints(config.file);
      check(config, complaints);
      complaints.end();
    } catch (const caravan::core::Error& error) {
      return error.what();
    }
    return "";
  };
  Config config = load("", {});
  config.file = "x.ini";
  CHECK(complaint(config, check_upcycle) ==
        "model.base is not set (the dense model): set [model] base=… in x.ini or pass --model.base=…\n"
        "run.folder is not set (the folder that holds the run's checkpoints): set [run] folder=… in x.ini or pass "
        "--run.folder=…");
  config.model.base = "b";
  config.model.store = "s";
  CHECK(complaint(config, check_upcycle).empty());
  config.upcycle.topk = 9;
  CHECK(complaint(config, check_upcycle) == "upcycle.topk = 9 exceeds upcycle.experts = 8");
  config.file = "";
  CHECK(complaint(config, check_train) ==
        "data.packed is not set (the packed tokens, from prepare): pass --data.packed=…");
  config.run.folder = "r";
  config.data.packed = "p";
  CHECK(complaint(config, check_train).empty());
  config.train.micro_batch = 3;
  CHECK(complaint(config, check_train) == "train.batch = 128 is no multiple of train.micro_batch = 3");
  CHECK(complaint(config, check_evaluate) ==
        "there is nothing to evaluate on: set data.held_out_every and run caravan prepare, or data.held_out");
  config.data.held_out_every = 5;
  CHECK(complaint(config, check_evaluate).empty());
  config.train.micro_batch = 1;
  config.checkpoint.step = "latest";
  for (const auto check : {check_train, check_evaluate, check_export}) {
    CHECK(complaint(config, check) == "checkpoint.step = latest is neither newest nor a step");
  }
}

TEST_CASE("the checkpoint to read has one name, and its former one is accepted") {
  const File file("[evaluate]\nstep = 7\n");
  CHECK(load(file.path(), {}).checkpoint.chosen_step() == 7);
  // What is written has the present name only.
  CHECK(caravan::config::json(load(file.path(), {})) == caravan::config::json(load("", {"--checkpoint.step=7"})));
  CHECK(load(file.path(), {"--checkpoint.step=newest"}).checkpoint.chosen_step() == std::nullopt);
  CHECK(load("", {"--evaluate.step=120"}).checkpoint.step == "120");
  CHECK(load("", {"--evaluate.step", "120"}).checkpoint.step == "120");
  CHECK(error_of("[evaluate]\nstep = 7\n[checkpoint]\nstep = 8\n") ==
        "F:4: checkpoint.step is given twice; before: F:2");
  CHECK(error_of("", {"--evaluate.step=1", "--checkpoint.step=2"}) == "command line: checkpoint.step is given twice");
  CHECK(caravan::config::help().find("--evaluate.step") != std::string::npos);
  const auto renamed = caravan::config::renamed_settings();
  REQUIRE(renamed.size() == 1);
  CHECK((renamed[0].section == "checkpoint" && renamed[0].key == "step"));
  CHECK((renamed[0].former_section == "evaluate" && renamed[0].former_key == "step"));
}

TEST_CASE("a command reads its configuration, settings and flags from one line") {
  using caravan::config::read_request;
  const File file("[train]\nlr = 0.5\nsteps = 3\n");
  const auto request = read_request("train", {"--train.lr", "0.25", file.path(), "--profile", "--dump-config"});
  CHECK((request.config.train.lr == 0.25 && request.config.train.steps == 3 && request.config.train.profile));
  CHECK(request.dump);
  CHECK(request.config.file == file.path());
  CHECK_FALSE(read_request("train", {file.path()}).dump);
  const auto message = [&](const Arguments& arguments) -> std::string {
    try {
      read_request("train", arguments);
    } catch (const caravan::core::Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message({}).starts_with("caravan train needs a configuration file: caravan train CONFIG "));
  CHECK(message({"--train.lr=1"}).starts_with("caravan train needs a configuration file"));
  CHECK(message({file.path(), "train.lr=1"}) ==
        "command line: unexpected argument train.lr=1; settings are --section.key=value");
  CHECK(message({file.path(), "--profil", "--train.stepps=1"}) ==
        "command line: unknown setting profil; did you mean profile?\n"
        "command line: unknown setting train.stepps; did you mean train.steps?");
  CHECK(message({file.path(), "--dump-config=3"}).find("dump-config") != std::string::npos);
}

TEST_CASE("flags of a command without a configuration are read like settings") {
  using namespace caravan;
  struct Flags {
    std::string model;
    double tolerance = -1;
    train::Precision precision = train::Precision::fp32;
    bool tensors = false;
  } flags;
  const auto read = [&](const Arguments& arguments) {
    config::FieldList list("");
    list("model", flags.model, core::path(), "");
    list("tolerance", flags.tolerance, core::real(0, 1e9), "");
    list("precision", flags.precision, core::choice(), "");
    list("tensors", flags.tensors, core::flag(), "");
    return config::read_flags("look", "usage: caravan look PATH", list.take(), arguments);
  };
  CHECK(read({"--model=m", "--tensors", "here", "--precision", "bf16"}) == Arguments{"here"});
  CHECK((flags.model == "m" && flags.tensors && flags.precision == train::Precision::bf16 && flags.tolerance == -1));
  const auto message = [&](const Arguments& arguments) -> std::string {
    try {
      read(arguments);
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string usage = "; usage: caravan look PATH";
  CHECK(message({"--modle=m"}) == "caravan look: unknown flag --modle; did you mean --model?" + usage);
  CHECK(message({"--tensros"}) == "caravan look: unknown flag --tensros; did you mean --tensors?" + usage);
  CHECK(message({"-v"}) == "caravan look: unknown flag -v" + usage);
  CHECK(message({"--model=a", "--model=b"}) == "caravan look: --model is given twice" + usage);
  CHECK(message({"--tolerance=-1"}) == "caravan look: tolerance = -1 is out of range; use 0 to 1000000000" + usage);
  CHECK(message({"--precision=fp23"}) ==
        "caravan look: precision = fp23 is not a choice; use bf16 or fp32; did you mean fp32?" + usage);
  CHECK(message({"--model"}).starts_with("caravan look: the required argument for option '--model'"));
  CHECK(message({"--tensors=yes"}).find("tensors") != std::string::npos);
}
