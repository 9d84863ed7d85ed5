-- What turnstiled does with a swipe: the card, its holder, anti-passback, presence, the event.
create table cards (card_id text primary key, employee_id text not null, status text not null);
create table presence (
  building text, employee_id text, gate text not null, since timestamptz not null,
  primary key (building, employee_id));
create table events (sequence bigint primary key, event text not null);
create sequence event_sequence;

create function swipe(is_entry boolean, at_building text, at_gate text, of_card text) returns text
language plpgsql as $$
declare
  holder text;
  card_status text;
  reason text;
  number bigint := nextval('event_sequence');
  millis bigint := floor(extract(epoch from clock_timestamp()) * 1000);
  kind text := 'access.exit.recorded';
  answer text := 'recorded';
begin
  select employee_id, status into holder, card_status from cards where card_id = of_card;
  if is_entry then
    if holder is null then
      reason := 'unknown_card';
    elsif card_status <> 'active' then
      reason := card_status;
    else
      insert into presence values (at_building, holder, at_gate, now()) on conflict do nothing;
      if not found then
        reason := 'anti_passback';
      end if;
    end if;
    kind := case when reason is null then 'access.entry.granted' else 'access.entry.denied' end;
    answer := case when reason is null then 'granted' else 'denied' end;
  else
    delete from presence where building = at_building and employee_id = holder;
  end if;
  insert into events values (number,
    '{"specversion":"1.0","id":"' || gen_random_uuid() || '","source":"/buildings/' || at_building || '/gates/' ||
    at_gate || '","type":"' || kind || '","subject":"card/' || of_card || '","log":"bench.1795188056","time":"' ||
    lpad(millis::text, 24, '0') || '","datacontenttype":"application/json","sequence":"' ||
    lpad(number::text, 20, '0') || '","partitionkey":"' || coalesce(holder, of_card) ||
    '","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{"building":"' ||
    at_building || '","gate":"' || at_gate || '","card_id":"' || of_card || '","employee_id":"' ||
    coalesce(holder, '') || '","reason":' || coalesce('"' || reason || '"', 'null') ||
    ',"by":"device/k_00000000"}}');
  return answer;
end $$;
