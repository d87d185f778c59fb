import { create } from "@bufbuild/protobuf";
import { VmIdSchema, type Vm, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
