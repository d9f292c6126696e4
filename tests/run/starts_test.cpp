// SPDX-License-Identifier: Apache-2.0
#include "run/starts.hpp"

#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

TEST_CASE("node hours are those of starts whose begin and end are known") {
  using Record = run::StartRecord;
  std::vector<Record> starts;
  CHECK(run::node_hours(starts, 5) == 0);
  starts.push_back(Record{.begin = 1000, .end = 1000 + 1800, .nodes = 4});
  starts.push_back(Record{.begin = 5000, .end = {}, .nodes = 100});  // nobody knows when it was killed
  starts.push_back(Record{.begin = 9000, .end = {}, .nodes = 2});
  CHECK(run::node_hours(starts, {}) == 2);
  CHECK(run::node_hours(starts, 9000 + 3600) == 4);  // the newest still runs
  CHECK(run::node_hours(starts, 8000) == 2);         // by a clock that is behind
}

TEST_CASE("lines of starts that are torn or of another kind are passed over") {
  const test::ScratchFolder scratch;
  CHECK(run::read_starts(scratch / "missing").empty());
  test::write_text(scratch / "starts.jsonl",
                   "{\"event\":\"end\",\"time\":5}\n"
                   "{\"event\":\"begin\",\"time\":10,\"nodes\":2,\"ranks\":\"many\",\"job\":\"4711\"}\n"
                   "[1]\n{\"event\":\"pause\",\"time\":12}\nno JSON\n"
                   "{\"event\":\"end\",\"time\":20,\"code\":75,\"why\":\"stopped\",\"step\":3}\n"
                   "{\"event\":\"lost\",\"time\":30}\n"  // its end is known already
                   "{\"event\":\"begin\",\"time\":40}\n{\"event\":\"lost\",\"time\":35}\n{\"event\":\"beg");
  const std::vector<run::StartRecord> starts = run::read_starts(scratch / "starts.jsonl");
  REQUIRE(starts.size() == 2);
  CHECK(starts[0].begin == 10);
  CHECK(starts[0].nodes == 2);
  CHECK(starts[0].ranks == 0);
  CHECK(starts[0].job == "4711");
  CHECK(starts[0].end == 20);
  CHECK(starts[0].code == core::ExitCode::requeue);
  CHECK(starts[0].step == 3);
  CHECK(starts[1].end == 40);  // a heartbeat of another host's clock: not before its begin
  CHECK_FALSE(starts[1].code);
}
