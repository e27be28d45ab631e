/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/outbox.h"

#include <errno.h>
#include <stdlib.h>

void dr_packets_free(struct dr_packet *packets)
{
	while (packets) {
		struct dr_packet *next = packets->next;
		free(packets);
		packets = next;
	}
}

void dr_parcel_free(struct dr_parcel *parcels)
{
	while (parcels) {
		struct dr_parcel *next = parcels->next;
		dr_packets_free(parcels->packets);
		free(parcels->payload);
		free(parcels);
		parcels = next;
	}
}

static size_t weight_of(const struct dr_packet *packet)
{
	return (size_t)packet->len_bytes + DR_OUTBOX_OVERHEAD_BYTES;
}

static uint32_t raw_of(const struct dr_packet *packet)
{
	return packet->len_bytes + DR_FRAME_PREFIX_BYTES;
}

void dr_outbox_put(struct dr_outbox *o, struct dr_packet *packet)
{
	packet->next = NULL;
	if (o->queue_last)
		o->queue_last->next = packet;
	else
		o->queue_first = packet;
	o->queue_last = packet;
	o->queue_bytes += weight_of(packet);
}

static bool is_last_due(const struct dr_outbox *o)
{
	return o->ending && !o->has_ended;
}

/* May a new frame, of this packet at least, be made? */
static bool has_room(const struct dr_outbox *o)
{
	size_t next_bytes = o->queue_first ? weight_of(o->queue_first) : 0;
	return o->number - o->acknowledged < DR_OUTBOX_FLIGHT_FRAMES &&
	       (!o->first || o->flight_bytes + next_bytes <= DR_OUTBOX_FLIGHT_BYTES);
}

bool dr_outbox_has_more(const struct dr_outbox *o)
{
	return o->n_again > 0 || ((o->queue_first || is_last_due(o)) && has_room(o));
}

static struct dr_parcel *take_again(struct dr_outbox *o)
{
	struct dr_parcel *p = o->first;
	while (p->carrier)
		p = p->next;
	o->n_again--;
	return p;
}

/* Moves packets from the queue into the parcel, as many as go into one frame. */
static void fill(struct dr_outbox *o, struct dr_parcel *p)
{
	struct dr_packet **end = &p->packets;
	while (o->queue_first) {
		struct dr_packet *packet = o->queue_first;
		if (p->packets && p->frame.raw_bytes + raw_of(packet) > DR_OUTBOX_FRAME_BYTES)
			break;
		o->queue_first = packet->next;
		p->frame.raw_bytes += raw_of(packet);
		p->weight_bytes += weight_of(packet);
		packet->next = NULL;
		*end = packet;
		end = &packet->next;
	}
	if (!o->queue_first)
		o->queue_last = NULL;
	o->queue_bytes -= p->weight_bytes;
}

static struct dr_parcel *make(struct dr_outbox *o)
{
	struct dr_parcel *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	fill(o, p);
	p->frame.number = ++o->number;
	if (is_last_due(o) && !o->queue_first) {
		p->frame.flags = DR_FRAME_LAST;
		o->has_ended = true;
	}
	o->flight_bytes += p->weight_bytes;
	if (o->last)
		o->last->next = p;
	else
		o->first = p;
	o->last = p;
	return p;
}

struct dr_parcel *dr_outbox_take(struct dr_outbox *o, const void *carrier, int *ret_error)
{
	*ret_error = 0;
	if (!dr_outbox_has_more(o))
		return NULL;
	struct dr_parcel *p = o->n_again > 0 ? take_again(o) : make(o);
	if (!p) {
		*ret_error = -ENOMEM;
		return NULL;
	}
	p->carrier = carrier;
	p->held = true;
	return p;
}

void dr_outbox_give_back(struct dr_outbox *o, struct dr_parcel *parcel)
{
	(void)o;
	parcel->held = false;
	if (parcel->acknowledged)
		dr_parcel_free(parcel);
}

int dr_outbox_acknowledge(struct dr_outbox *o, uint64_t number, struct dr_parcel **ret_done)
{
	*ret_done = NULL;
	if (number > o->number)
		return -EPROTO;
	if (number > o->acknowledged)
		o->acknowledged = number;
	while (o->first && o->first->frame.number <= number) {
		struct dr_parcel *p = o->first;
		o->first = p->next;
		o->flight_bytes -= p->weight_bytes;
		if (!p->carrier)
			o->n_again--;
		p->acknowledged = true;
		p->next = NULL;
		if (!p->held) {
			p->next = *ret_done;
			*ret_done = p;
		}
	}
	if (!o->first)
		o->last = NULL;
	return 0;
}

void dr_outbox_lose(struct dr_outbox *o, const void *carrier)
{
	for (struct dr_parcel *p = o->first; p; p = p->next)
		if (p->carrier == carrier) {
			p->carrier = NULL;
			o->n_again++;
		}
}

void dr_outbox_cut_short(struct dr_outbox *o, struct dr_packet *packet)
{
	dr_packets_free(o->queue_first);
	o->queue_first = o->queue_last = NULL;
	o->queue_bytes = 0;
	if (o->has_ended)
		free(packet);
	else
		dr_outbox_put(o, packet);
	o->ending = true;
}

void dr_outbox_finish(struct dr_outbox *o)
{
	dr_packets_free(o->queue_first);
	dr_parcel_free(o->first);
	*o = (struct dr_outbox){0};
}
