// The published conformance tests, against the address in CONFORMANCE_TEST_URL.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";
import fc from "fast-check";

// A property has up to 256 examples, each of many requests: on a busy machine as many as it can try
// in this time, and the first one in any case.
fc.configureGlobal({ interruptAfterTimeLimit: 4_000 });
runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL });
