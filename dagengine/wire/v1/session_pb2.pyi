from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OrchestratorMessage(_message.Message):
    __slots__ = ("hello", "proof", "drops", "adopts", "histories", "starts", "deliveries", "acks", "resends", "shared_pools", "pool_grants", "result_answers", "lease", "position", "reserves")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    ADOPTS_FIELD_NUMBER: _ClassVar[int]
    HISTORIES_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    RESENDS_FIELD_NUMBER: _ClassVar[int]
    SHARED_POOLS_FIELD_NUMBER: _ClassVar[int]
    POOL_GRANTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RESERVES_FIELD_NUMBER: _ClassVar[int]
    hello: OrchestratorHello
    proof: OrchestratorProof
    drops: _containers.RepeatedCompositeFieldContainer[Drop]
    adopts: _containers.RepeatedCompositeFieldContainer[Adopt]
    histories: _containers.RepeatedCompositeFieldContainer[History]
    starts: _containers.RepeatedCompositeFieldContainer[Start]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    resends: _containers.RepeatedCompositeFieldContainer[Resend]
    shared_pools: SharedPools
    pool_grants: _containers.RepeatedCompositeFieldContainer[PoolGrant]
    result_answers: _containers.RepeatedCompositeFieldContainer[ResultAnswer]
    lease: Lease
    position: int
    reserves: _containers.RepeatedCompositeFieldContainer[Reserve]
    def __init__(self, hello: _Optional[_Union[OrchestratorHello, _Mapping]] = ..., proof: _Optional[_Union[OrchestratorProof, _Mapping]] = ..., drops: _Optional[_Iterable[_Union[Drop, _Mapping]]] = ..., adopts: _Optional[_Iterable[_Union[Adopt, _Mapping]]] = ..., histories: _Optional[_Iterable[_Union[History, _Mapping]]] = ..., starts: _Optional[_Iterable[_Union[Start, _Mapping]]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ..., resends: _Optional[_Iterable[_Union[Resend, _Mapping]]] = ..., shared_pools: _Optional[_Union[SharedPools, _Mapping]] = ..., pool_grants: _Optional[_Iterable[_Union[PoolGrant, _Mapping]]] = ..., result_answers: _Optional[_Iterable[_Union[ResultAnswer, _Mapping]]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., position: _Optional[int] = ..., reserves: _Optional[_Iterable[_Union[Reserve, _Mapping]]] = ...) -> None: ...

class EngineMessage(_message.Message):
    __slots__ = ("challenge", "hello", "logs", "facts", "refusals", "load", "pool_report", "pool_releases", "pool_requests", "result_lookups", "parks")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    POOL_REPORT_FIELD_NUMBER: _ClassVar[int]
    POOL_RELEASES_FIELD_NUMBER: _ClassVar[int]
    POOL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    PARKS_FIELD_NUMBER: _ClassVar[int]
    challenge: EngineChallenge
    hello: EngineHello
    logs: _containers.RepeatedCompositeFieldContainer[LogBatch]
    facts: _containers.RepeatedCompositeFieldContainer[FactBatch]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    load: Load
    pool_report: PoolReport
    pool_releases: _containers.RepeatedCompositeFieldContainer[PoolRelease]
    pool_requests: _containers.RepeatedCompositeFieldContainer[PoolRequest]
    result_lookups: _containers.RepeatedCompositeFieldContainer[ResultLookup]
    parks: _containers.RepeatedCompositeFieldContainer[Park]
    def __init__(self, challenge: _Optional[_Union[EngineChallenge, _Mapping]] = ..., hello: _Optional[_Union[EngineHello, _Mapping]] = ..., logs: _Optional[_Iterable[_Union[LogBatch, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[FactBatch, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., pool_report: _Optional[_Union[PoolReport, _Mapping]] = ..., pool_releases: _Optional[_Iterable[_Union[PoolRelease, _Mapping]]] = ..., pool_requests: _Optional[_Iterable[_Union[PoolRequest, _Mapping]]] = ..., result_lookups: _Optional[_Iterable[_Union[ResultLookup, _Mapping]]] = ..., parks: _Optional[_Iterable[_Union[Park, _Mapping]]] = ...) -> None: ...

class OrchestratorHello(_message.Message):
    __slots__ = ("protocol", "orchestrator", "incarnation", "nonce")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ORCHESTRATOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    orchestrator: str
    incarnation: str
    nonce: bytes
    def __init__(self, protocol: _Optional[int] = ..., orchestrator: _Optional[str] = ..., incarnation: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class EngineChallenge(_message.Message):
    __slots__ = ("protocol", "nonce", "proof")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    nonce: bytes
    proof: bytes
    def __init__(self, protocol: _Optional[int] = ..., nonce: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class OrchestratorProof(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: bytes
    def __init__(self, proof: _Optional[bytes] = ...) -> None: ...

class EngineHello(_message.Message):
    __slots__ = ("engine", "incarnation", "version", "executors", "labels", "capacity", "draining", "held", "pools", "acknowledged_position", "reservable", "reserved_for")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_POSITION_FIELD_NUMBER: _ClassVar[int]
    RESERVABLE_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FOR_FIELD_NUMBER: _ClassVar[int]
    engine: str
    incarnation: str
    version: str
    executors: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    capacity: int
    draining: bool
    held: _containers.RepeatedCompositeFieldContainer[Held]
    pools: _containers.RepeatedCompositeFieldContainer[Pool]
    acknowledged_position: int
    reservable: bool
    reserved_for: str
    def __init__(self, engine: _Optional[str] = ..., incarnation: _Optional[str] = ..., version: _Optional[str] = ..., executors: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., capacity: _Optional[int] = ..., draining: bool = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., pools: _Optional[_Iterable[_Union[Pool, _Mapping]]] = ..., acknowledged_position: _Optional[int] = ..., reservable: bool = ..., reserved_for: _Optional[str] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("execution", "epoch", "last_seq", "acknowledged")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    last_seq: int
    acknowledged: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., last_seq: _Optional[int] = ..., acknowledged: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("execution", "epoch", "digest", "document", "inputs", "seed", "history", "priority", "exclusive")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    digest: str
    document: bytes
    inputs: bytes
    seed: int
    history: int
    priority: int
    exclusive: bool
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., digest: _Optional[str] = ..., document: _Optional[bytes] = ..., inputs: _Optional[bytes] = ..., seed: _Optional[int] = ..., history: _Optional[int] = ..., priority: _Optional[int] = ..., exclusive: bool = ...) -> None: ...

class Reserve(_message.Message):
    __slots__ = ("execution", "over")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    execution: str
    over: bool
    def __init__(self, execution: _Optional[str] = ..., over: bool = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("execution", "epoch", "first_seq", "facts")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    first_seq: int
    facts: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., first_seq: _Optional[int] = ..., facts: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Adopt(_message.Message):
    __slots__ = ("execution", "epoch", "committed_seq", "dispatch_epoch")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_EPOCH_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    committed_seq: int
    dispatch_epoch: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., committed_seq: _Optional[int] = ..., dispatch_epoch: _Optional[int] = ...) -> None: ...

class Drop(_message.Message):
    __slots__ = ("execution", "epoch")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("execution", "id", "kind", "payload")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    execution: str
    id: str
    kind: str
    payload: bytes
    def __init__(self, execution: _Optional[str] = ..., id: _Optional[str] = ..., kind: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("execution", "epoch", "seq")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    seq: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class Resend(_message.Message):
    __slots__ = ("execution", "epoch", "from_seq")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    from_seq: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., from_seq: _Optional[int] = ...) -> None: ...

class FactBatch(_message.Message):
    __slots__ = ("execution", "epoch", "first_seq", "facts")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    first_seq: int
    facts: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., first_seq: _Optional[int] = ..., facts: _Optional[_Iterable[bytes]] = ...) -> None: ...

class LogBatch(_message.Message):
    __slots__ = ("execution", "epoch", "lines", "dropped")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    dropped: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., lines: _Optional[_Iterable[bytes]] = ..., dropped: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("execution", "epoch", "reason", "message")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Refusal.Reason]
        FULL: _ClassVar[Refusal.Reason]
        DRAINING: _ClassVar[Refusal.Reason]
        UNABLE: _ClassVar[Refusal.Reason]
        UNKNOWN_DOCUMENT: _ClassVar[Refusal.Reason]
        BROKEN: _ClassVar[Refusal.Reason]
        HISTORY_MISSING: _ClassVar[Refusal.Reason]
        RESERVED: _ClassVar[Refusal.Reason]
    REASON_UNSPECIFIED: Refusal.Reason
    FULL: Refusal.Reason
    DRAINING: Refusal.Reason
    UNABLE: Refusal.Reason
    UNKNOWN_DOCUMENT: Refusal.Reason
    BROKEN: Refusal.Reason
    HISTORY_MISSING: Refusal.Reason
    RESERVED: Refusal.Reason
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    reason: Refusal.Reason
    message: str
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., reason: _Optional[_Union[Refusal.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("running", "capacity", "draining", "unacknowledged", "pools", "beat", "reserved_for")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    UNACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FOR_FIELD_NUMBER: _ClassVar[int]
    running: int
    capacity: int
    draining: bool
    unacknowledged: int
    pools: _containers.RepeatedCompositeFieldContainer[Pool]
    beat: int
    reserved_for: str
    def __init__(self, running: _Optional[int] = ..., capacity: _Optional[int] = ..., draining: bool = ..., unacknowledged: _Optional[int] = ..., pools: _Optional[_Iterable[_Union[Pool, _Mapping]]] = ..., beat: _Optional[int] = ..., reserved_for: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("beat", "milliseconds")
    BEAT_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    beat: int
    milliseconds: int
    def __init__(self, beat: _Optional[int] = ..., milliseconds: _Optional[int] = ...) -> None: ...

class Park(_message.Message):
    __slots__ = ("execution", "epoch", "last_seq", "wake_at")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    WAKE_AT_FIELD_NUMBER: _ClassVar[int]
    execution: str
    epoch: int
    last_seq: int
    wake_at: int
    def __init__(self, execution: _Optional[str] = ..., epoch: _Optional[int] = ..., last_seq: _Optional[int] = ..., wake_at: _Optional[int] = ...) -> None: ...

class Pool(_message.Message):
    __slots__ = ("name", "size", "used", "waiting")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    used: int
    waiting: int
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., used: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class SharedPools(_message.Message):
    __slots__ = ("names", "term")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    term: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., term: _Optional[int] = ...) -> None: ...

class PoolReport(_message.Message):
    __slots__ = ("holdings",)
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    holdings: _containers.RepeatedCompositeFieldContainer[PoolHolding]
    def __init__(self, holdings: _Optional[_Iterable[_Union[PoolHolding, _Mapping]]] = ...) -> None: ...

class PoolHolding(_message.Message):
    __slots__ = ("ticket", "pool", "weight")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    pool: str
    weight: int
    def __init__(self, ticket: _Optional[int] = ..., pool: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class PoolRequest(_message.Message):
    __slots__ = ("ticket", "pool", "weight", "priority", "waited")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    pool: str
    weight: int
    priority: int
    waited: int
    def __init__(self, ticket: _Optional[int] = ..., pool: _Optional[str] = ..., weight: _Optional[int] = ..., priority: _Optional[int] = ..., waited: _Optional[int] = ...) -> None: ...

class PoolRelease(_message.Message):
    __slots__ = ("tickets",)
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    tickets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tickets: _Optional[_Iterable[int]] = ...) -> None: ...

class PoolGrant(_message.Message):
    __slots__ = ("tickets",)
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    tickets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tickets: _Optional[_Iterable[int]] = ...) -> None: ...

class ResultLookup(_message.Message):
    __slots__ = ("number", "digest")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    number: int
    digest: str
    def __init__(self, number: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class ResultAnswer(_message.Message):
    __slots__ = ("number", "found", "result", "execution")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    number: int
    found: bool
    result: bytes
    execution: str
    def __init__(self, number: _Optional[int] = ..., found: bool = ..., result: _Optional[bytes] = ..., execution: _Optional[str] = ...) -> None: ...
